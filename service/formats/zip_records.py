"""The records of a zip file, and where its directory lies. Sections are those of PKWARE's APPNOTE 6.3.10.

`END64`, `LOCATOR64` and the extra field `WIDE` are zip64: they hold what an all-ones field elsewhere has no room for.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

from service.formats.problems import FileProblem

LOCAL = struct.Struct("<4s5H3L2H")
"""Local file header, 4.3.7."""
ENTRY = struct.Struct("<4s6H3L5H2L")
"""Central directory header, 4.3.12."""
END64 = struct.Struct("<4sQ2H2L4Q")
"""Zip64 end of central directory record, 4.3.14."""
LOCATOR64 = struct.Struct("<4sLQL")
"""Zip64 end of central directory locator, 4.3.15."""
END = struct.Struct("<4s4H2LH")
"""End of central directory record, 4.3.16."""
IS_LOCAL, IS_ENTRY = b"PK\x03\x04", b"PK\x01\x02"
IS_END64, IS_LOCATOR64, IS_END = b"PK\x06\x06", b"PK\x06\x07", b"PK\x05\x06"

STORED = 0
"""Compression method, 4.4.5."""
UTF8 = 1 << 11
"""Flag of a name that is not ASCII, 4.4.4."""
WIDE = 1
"""Tag of the zip64 extended information, 4.5.3."""
VERSION, VERSION64 = 20, 45
"""Versions needed to extract, 4.4.3."""
ONES16, ONES32 = 0xFFFF, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """One stored file of a zip."""

    name: str
    size: int
    crc: int
    offset: int
    """Of its local header."""


@dataclass(frozen=True, slots=True)
class Directory:
    """What the end records say of the central directory."""

    entries: int
    num_bytes: int
    offset: int
    end: int
    """Where the end records begin."""


def find_directory(file: IO[bytes]) -> Directory:
    """Raises `FileProblem` for what is no zip, or one over several disks. What it finds is not checked further."""
    size = file.seek(0, 2)
    if size == 0:
        raise FileProblem("is empty")
    tail_at = max(0, size - END.size - ONES16)
    file.seek(tail_at)
    tail = file.read()
    at = tail.rfind(IS_END)
    if at < 0 or len(tail) - at < END.size:
        raise FileProblem("is not a zip file, or is cut short: it has no end record")
    _, disk, start_disk, _, entries, num_bytes, offset, _ = END.unpack_from(tail, at)
    if disk or start_disk:
        raise FileProblem("is one part of a zip over several disks; send one whole zip")
    if at >= LOCATOR64.size and tail[at - LOCATOR64.size :].startswith(IS_LOCATOR64):
        return _directory64(file, LOCATOR64.unpack_from(tail, at - LOCATOR64.size), size)
    return Directory(entries, num_bytes, offset, tail_at + at)


def _directory64(file: IO[bytes], locator: tuple[bytes, int, int, int], size: int) -> Directory:
    _, disk, at, disks = locator
    if disk or disks > 1 or at + END64.size > size:
        raise FileProblem("has a zip64 end record that cannot be right")
    file.seek(at)
    signature, _, _, _, _, _, _, entries, num_bytes, offset = END64.unpack(file.read(END64.size))
    if signature != IS_END64:
        raise FileProblem("has a zip64 end record that cannot be right")
    return Directory(entries, num_bytes, offset, at)
