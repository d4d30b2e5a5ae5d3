"""`ZipReader`: walks the directory of a zip of stored files without keeping it, and reads each file where it lies."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import IO

from service.formats.problems import FileProblem
from service.formats.zip_records import (
    ENTRY,
    IS_ENTRY,
    IS_LOCAL,
    LOCAL,
    ONES32,
    STORED,
    UTF8,
    VERSION64,
    WIDE,
    Member,
    find_directory,
)

READ_BYTES = 1024**2


class ZipReader:
    """Over a seekable file, which others may read too between two calls. Everything raises `FileProblem` for damage."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._directory = find_directory(file)
        if self._directory.offset + self._directory.num_bytes != self._directory.end:
            raise FileProblem("its directory is not where its end record says")

    def members(self) -> Iterator[Member]:
        """Those of the directory, in its order."""
        directory = self._directory
        stream = io.BufferedReader(_Span(self._file, directory.offset, directory.num_bytes), READ_BYTES)
        for _ in range(directory.entries):
            yield self._next_member(stream)
        if stream.read(1):
            raise FileProblem("its directory has more entries than its end record says")

    def find(self, *names: str) -> list[Member]:
        """The members of these names."""
        found: dict[str, Member] = {}
        for member in self.members():
            if member.name in names:
                if member.name in found:
                    raise FileProblem(f"{member.name!r} is in its directory twice")
                found[member.name] = member
        if missing := [name for name in names if name not in found]:
            raise FileProblem(f"{missing[0]!r} is not in its directory")
        return [found[name] for name in names]

    def read(self, member: Member) -> bytes:
        """All bytes of a file that fits into memory."""
        self._file.seek(self._data_at(member))
        data = self._file.read(member.size)
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise FileProblem(f"{member.name!r} is damaged: its bytes do not have the CRC of the directory")
        return data

    def open(self, member: Member) -> IO[bytes]:
        """A stream of a file's bytes; damage is noticed at their end."""
        return io.BufferedReader(_Checked(self._file, self._data_at(member), member), READ_BYTES)

    def _next_member(self, stream: IO[bytes]) -> Member:
        head = stream.read(ENTRY.size)
        if len(head) < ENTRY.size or not head.startswith(IS_ENTRY):
            raise FileProblem("its directory is damaged")
        _, _, version, flags, method, _, _, crc, packed, size, *lengths, disk, _, _, offset = ENTRY.unpack(head)
        rest, in_name, in_extra = stream.read(sum(lengths)), lengths[0], lengths[1]
        if len(rest) < sum(lengths):
            raise FileProblem("its directory is damaged")
        name = _decoded(rest[:in_name], flags)
        if ONES32 in (packed, size, offset):
            size, packed, offset = _wide(rest[in_name : in_name + in_extra], (size, packed, offset))
        if method != STORED or packed != size or flags & ~UTF8 or version > VERSION64 or disk:
            raise FileProblem(f"{name!r} is not stored as it is")
        if offset + LOCAL.size + in_name + size > self._directory.offset:
            raise FileProblem(f"{name!r} does not lie before the directory")
        return Member(name, size, crc, offset)

    def _data_at(self, member: Member) -> int:
        """Behind the local header, which has to say what the directory says."""
        self._file.seek(member.offset)
        head = self._file.read(LOCAL.size)
        signature, _, flags, method, _, _, crc, packed, size, in_name, in_extra = LOCAL.unpack(head)
        name = _decoded(self._file.read(in_name), flags)
        if ONES32 in (packed, size):
            size, packed = _wide(self._file.read(in_extra), (size, packed))
        said = (signature, flags & ~UTF8, method, name, packed, size, crc)
        if said != (IS_LOCAL, 0, STORED, member.name, member.size, member.size, member.crc):
            raise FileProblem(f"{member.name!r} has a header that is not that of the directory")
        return member.offset + LOCAL.size + int(in_name) + int(in_extra)


class _Span(io.RawIOBase):
    """Some bytes of a shared file, as a file of their own that is read forwards."""

    def __init__(self, file: IO[bytes], start: int, num_bytes: int) -> None:
        self._file, self._at, self._end = file, start, start + num_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self._file.seek(self._at)
        data = self._file.read(min(len(buffer), self._end - self._at))
        self._at += len(data)
        buffer[: len(data)] = data
        return len(data)


class _Checked(_Span):
    """A member's bytes."""

    def __init__(self, file: IO[bytes], start: int, member: Member) -> None:
        super().__init__(file, start, member.size)
        self._member, self._crc = member, 0

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = super().readinto(buffer)
        self._crc = zlib.crc32(buffer[:count], self._crc)
        if (count == 0 or self._at == self._end) and self._crc != self._member.crc:
            raise FileProblem(f"{self._member.name!r} is damaged: its bytes do not have the CRC of the directory")
        return count


def _decoded(name: bytes, flags: int) -> str:
    try:
        return name.decode("utf-8" if flags & UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise FileProblem(f"a name is not UTF-8: {name[:80]!r}") from error


def _wide(extra: bytes, narrow: tuple[int, ...]) -> list[int]:
    """The zip64 values of the all-ones fields among `narrow`, in its order."""
    while len(extra) >= 4:
        tag, size = struct.unpack_from("<2H", extra)
        if tag == WIDE:
            count = min(size, len(extra) - 4) // 8
            values = iter(struct.unpack_from(f"<{count}Q", extra, 4))
            return [next(values, value) if value == ONES32 else value for value in narrow]
        extra = extra[4 + size :]
    return list(narrow)
