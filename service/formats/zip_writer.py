"""`ZipWriter`: a zip of any number of stored files in flat memory; its directory waits on a scratch file."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from service.formats.zip_records import (
    END,
    END64,
    ENTRY,
    IS_END,
    IS_END64,
    IS_ENTRY,
    IS_LOCAL,
    IS_LOCATOR64,
    LOCAL,
    LOCATOR64,
    ONES16,
    ONES32,
    STORED,
    UTF8,
    VERSION,
    VERSION64,
    WIDE,
    Member,
)

UNIX = 3 << 8
MODE = 0o644 << 16
TIME, DATE = 0, 1 << 5 | 1
"""The first of January 1980, so that the same input gives the same bytes."""
COPY_BYTES = 1024**2


class ZipWriter:
    """Appends to a seekable file that is open for writing; a context manager that ends its scratch file, not the zip."""

    def __init__(self, file: IO[bytes], scratch: Path | None = None) -> None:
        """`scratch` is the folder for the directory while it grows, 46 bytes a file and its name."""
        self._file = file
        self._at = file.tell()
        self._directory = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - closed by leaving the `with`
        self._entries = 0
        self._finished = False

    def __enter__(self) -> ZipWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self._directory.close()

    def add(self, name: str, data: bytes) -> None:
        """A file whose bytes are at hand."""
        self._go_on()
        member = Member(name, len(data), zlib.crc32(data), self._at)
        header = _local(member, wide=member.size >= ONES32)
        self._file.write(header)
        self._file.write(data)
        self._enter(member, header)

    def add_chunks(self, name: str, chunks: Iterable[bytes]) -> None:
        """A file of a size not known before: its header is written once more when it is."""
        self._go_on()
        self._file.write(_local(Member(name, 0, 0, self._at), wide=True))
        size = crc = 0
        for chunk in chunks:
            self._file.write(chunk)
            size, crc = size + len(chunk), zlib.crc32(chunk, crc)
        member = Member(name, size, crc, self._at)
        header = _local(member, wide=True)
        self._file.seek(self._at)
        self._file.write(header)
        self._enter(member, header)
        self._file.seek(self._at)

    def finish(self) -> None:
        """Makes it a whole zip. A file may be added after that: it takes the directory's place until the next `finish`."""
        self._go_on()
        size = self._directory.tell()
        self._directory.seek(0)
        shutil.copyfileobj(self._directory, self._file, COPY_BYTES)
        self._file.write(_end(self._entries, size, self._at))
        self._finished = True

    def _go_on(self) -> None:
        """To where the directory begins, whose end records are cut off."""
        if self._finished:
            self._file.seek(self._at)
            self._file.truncate()
            self._finished = False

    def _enter(self, member: Member, header: bytes) -> None:
        self._directory.write(_entry(member))
        self._entries += 1
        self._at += len(header) + member.size


def _local(member: Member, *, wide: bool) -> bytes:
    name, flags = _name(member)
    size = ONES32 if wide else member.size
    extra = struct.pack("<2H2Q", WIDE, 16, member.size, member.size) if wide else b""
    version = VERSION64 if wide else VERSION
    fields = (IS_LOCAL, version, flags, STORED, TIME, DATE, member.crc, size, size, len(name), len(extra))
    return LOCAL.pack(*fields) + name + extra


def _entry(member: Member) -> bytes:
    name, flags = _name(member)
    places = (member.size, member.size, member.offset)
    wide = [value for value in places if value >= ONES32]
    extra = struct.pack(f"<2H{len(wide)}Q", WIDE, 8 * len(wide), *wide) if wide else b""
    version = VERSION64 if wide else VERSION
    packed, size, offset = (min(value, ONES32) for value in places)
    made = (IS_ENTRY, UNIX | version, version, flags, STORED, TIME, DATE, member.crc, packed, size)
    return ENTRY.pack(*made, len(name), len(extra), 0, 0, 0, MODE, offset) + name + extra


def _name(member: Member) -> tuple[bytes, int]:
    """(bytes, flags)."""
    name = member.name.encode()
    if len(name) > ONES16:
        raise ValueError(f"a name of {len(name):,} bytes does not fit into a zip: {member.name[:80]!r}...")
    return name, 0 if member.name.isascii() else UTF8


def _end(entries: int, size: int, offset: int) -> bytes:
    end = END.pack(IS_END, 0, 0, min(entries, ONES16), min(entries, ONES16), min(size, ONES32), min(offset, ONES32), 0)
    if entries < ONES16 and size < ONES32 and offset < ONES32:
        return end
    versions = (UNIX | VERSION64, VERSION64)
    end64 = END64.pack(IS_END64, END64.size - 12, *versions, 0, 0, entries, entries, size, offset)
    return end64 + LOCATOR64.pack(IS_LOCATOR64, 0, offset + size, 1) + end
