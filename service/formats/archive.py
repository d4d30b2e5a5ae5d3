"""Safe reading of an uploaded zip file on disk.

The directory is judged before a byte is inflated: count, sizes, ratios, names, kinds, overlaps. While inflating, real
bytes are counted, since headers lie. Nothing is ever written to disk under a name from the archive.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import IO

from service.formats.archive_entries import Entry, directory_faults, visible_entries
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem, ProblemList
from service.formats.zip_records import find_directory

READ_BYTES = 256 * 1024

BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    NotImplementedError,
    RuntimeError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    OverflowError,
    LookupError,
)
"""What zipfile raises for hostile bytes (`RuntimeError`: encrypted; `ValueError` holds `UnicodeDecodeError`)."""

on_read: ContextVar[Callable[[str], object] | None] = ContextVar("on_read", default=None)
"""Told the name of every file before it is read: a reading process that ends can be said to have ended there."""

DIRECTORY_BYTES_PER_ENTRY = 1024


class Archive:
    """An opened zip whose directory was found sound; a context manager."""

    def __init__(self, path: Path | str, limits: UploadLimits) -> None:
        """Raises `Invalid` with everything that is wrong with the directory."""
        problems = ProblemList()
        self._file: IO[bytes] = open(path, "rb")  # noqa: SIM115 - closed by close()
        try:
            with problems.at("archive"):
                _check_end_record(self._file, limits)
                self._zip = _open(self._file)
                directory_faults(self._zip, limits, problems)
            problems.refuse_if_any("The archive cannot be accepted")
            self.entries: tuple[Entry, ...] = visible_entries(self._zip)
            self._by_path = {entry.path: entry for entry in self.entries}
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._zip.close()
        self._file.close()

    def find(self, path: str) -> Entry | None:
        """The entry with this path below the archive's common root folder."""
        return self._by_path.get(path)

    def within(self, folder: str) -> Iterator[Entry]:
        """Entries below a folder of the root, in archive order."""
        return (entry for entry in self.entries if PurePosixPath(entry.path).parts[:-1][:1] == (folder,))

    def read(self, entry: Entry, max_bytes: int) -> bytes:
        """The entry's inflated bytes. Raises `FileProblem` when it is larger, broken, or not what its header says."""
        if (tell := on_read.get()) is not None:
            tell(entry.name)
        if entry.size > max_bytes:
            raise FileProblem(f"{entry.size:,} bytes; at most {max_bytes:,} are allowed here")
        chunks = []
        left = entry.size
        try:
            with self._zip.open(entry.info) as stream:
                while chunk := stream.read(min(READ_BYTES, left + 1)):
                    left -= len(chunk)
                    chunks.append(chunk)
                    if left < 0:
                        break
        except BROKEN as error:
            raise FileProblem(f"cannot be inflated: {error}") from error
        if left:
            raise FileProblem("does not have the size the archive says")
        return b"".join(chunks)


def _open(file: IO[bytes]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except BROKEN as error:
        raise FileProblem(f"is not a readable zip file: {error}") from error


def _check_end_record(file: IO[bytes], limits: UploadLimits) -> None:
    """Reads the end record before zipfile builds an object per entry: one disk, a bearable directory."""
    directory = find_directory(file)
    most = limits.max_entries
    if directory.entries > most or directory.num_bytes > most * DIRECTORY_BYTES_PER_ENTRY:
        raise FileProblem(f"names more than {most:,} entries")
