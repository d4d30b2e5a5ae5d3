"""The entries of a zip's directory: which are refused unread, and which a reader sees."""

from __future__ import annotations

import re
import stat
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from service.formats.limits import MIB, UploadLimits
from service.formats.problems import FileProblem, ProblemList

NESTED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".jar", ".whl")
LITTER = re.compile(r"(^|/)(__MACOSX/.*|\.DS_Store|Thumbs\.db|desktop\.ini)$", re.IGNORECASE)
"""What operating systems add by themselves; judged like all else, then not shown to readers."""

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
LOCAL_HEADER_BYTES = 30
ENCRYPTED = 0x1 | 0x40 | 0x2000
MAX_PATH = 512
NAMED_FOLDERS = frozenset({"images", "masks", "instances", "annotations"})


@dataclass(frozen=True)
class Entry:
    """A file of the archive."""

    name: str
    """As the sender wrote it; the place in every fault."""
    path: str
    """Below the one folder that holds everything, when the sender zipped a folder."""
    size: int
    info: zipfile.ZipInfo

    @property
    def suffix(self) -> str:
        """`.png`; empty without one."""
        base = self.path.rpartition("/")[2]
        return "." + base.rpartition(".")[2].lower() if "." in base else ""

    @property
    def stem(self) -> str:
        """`images/a/0001.png` -> `0001`."""
        base = self.path.rpartition("/")[2]
        return base.rpartition(".")[0] or base


def visible_entries(archive: zipfile.ZipFile) -> tuple[Entry, ...]:
    """Files in archive order, without folders and litter."""
    infos = [i for i in archive.infolist() if not i.is_dir() and not LITTER.search(i.filename)]
    tops = {i.filename.partition("/")[0] for i in infos}
    wrapped = len(tops) == 1 and not tops & NAMED_FOLDERS and all("/" in i.filename for i in infos)
    cut = len(next(iter(tops))) + 1 if wrapped else 0
    return tuple(Entry(i.filename, i.filename[cut:], i.file_size, i) for i in infos)


def directory_faults(archive: zipfile.ZipFile, limits: UploadLimits, problems: ProblemList) -> None:
    """Adds every reason to refuse this archive that its directory shows."""
    infos = archive.infolist()
    if not infos:
        raise FileProblem("has no entries")
    if len(infos) > limits.max_entries:
        raise FileProblem(f"has {len(infos):,} entries; at most {limits.max_entries:,} are allowed")
    for info in infos:
        for message in _entry_faults(info, limits):
            problems.add(info.orig_filename, message)
    _total_faults(infos, limits, problems)
    _collision_faults(infos, problems)
    _overlap_faults(archive, infos, problems)


def name_fault(name: str) -> str | None:
    """Why a path from a sender is refused; None for a plain relative path."""
    parts = name.removesuffix("/").split("/")
    if not name or len(name) > MAX_PATH:
        return f"has a name that is empty or longer than {MAX_PATH} characters"
    if "\x00" in name or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        return "has a control character in its name"
    if "\\" in name:
        return "has a backslash in its name; zip names use /"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    if any(part in ("", ".", "..") for part in parts):
        return "has a name with an empty, . or .. part"
    if any(RESERVED.fullmatch(part) for part in parts):
        return "has a name that Windows reserves for devices"
    return None


def _entry_faults(info: zipfile.ZipInfo, limits: UploadLimits) -> Iterator[str]:
    if fault := name_fault(info.orig_filename):
        yield fault
    if info.flag_bits & ENCRYPTED:
        yield "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield "is compressed in a way other than stored or deflated"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        yield "is a symbolic link or a device, not a file"
    if info.volume:
        yield "lies on another disk of the archive"
    if info.filename.lower().endswith(NESTED):
        yield "is an archive inside the archive"
    if info.file_size > limits.max_total_bytes:
        yield f"inflates to {info.file_size:,} bytes"
    elif info.file_size > MIB and info.file_size > limits.max_ratio * max(1, info.compress_size):
        yield f"inflates to more than {limits.max_ratio:g} times its compressed size"


def _total_faults(infos: list[zipfile.ZipInfo], limits: UploadLimits, problems: ProblemList) -> None:
    total = sum(info.file_size for info in infos)
    packed = sum(info.compress_size for info in infos)
    if total > limits.max_total_bytes:
        problems.add("archive", f"inflates to {total:,} bytes; at most {limits.max_total_bytes:,} are allowed")
    elif total > 16 * MIB and total > limits.max_ratio * max(1, packed):
        problems.add("archive", f"inflates to more than {limits.max_ratio:g} times its compressed size")


def _collision_faults(infos: list[zipfile.ZipInfo], problems: ProblemList) -> None:
    """Names that are one name on some file system: differing in case or in Unicode composition only."""
    seen: dict[str, str] = {}
    for info in infos:
        key = unicodedata.normalize("NFC", info.filename.removesuffix("/")).casefold()
        if key in seen:
            problems.add(info.orig_filename, f"has the same name as {seen[key]!r} on some file systems")
        else:
            seen[key] = info.filename


def _overlap_faults(archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo], problems: ProblemList) -> None:
    """Entries that share bytes: the trick of archives that inflate to petabytes."""
    ordered = sorted(infos, key=lambda info: info.header_offset)
    ends = [info.header_offset for info in ordered[1:]] + [archive.start_dir]
    for info, end in zip(ordered, ends, strict=True):
        if info.header_offset < 0 or info.header_offset + LOCAL_HEADER_BYTES + info.compress_size > end:
            problems.add(info.orig_filename, "overlaps another entry or the end of the archive")
