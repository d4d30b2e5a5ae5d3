from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formats.problems import FileProblem
from service.formats.zip_reader import ZipReader
from service.formats.zip_records import END, ENTRY
from tests.service.formats.test_zip_writer import files, written


def zipped(members: dict[str, bytes], **options: int) -> bytes:
    """As zipfile writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def read(data: bytes) -> list[tuple[str, bytes]]:
    """Everything, whole and as a stream."""
    reader = ZipReader(io.BytesIO(data))
    found = [(member.name, reader.read(member)) for member in reader.members()]
    assert found == [(member.name, reader.open(member).read()) for member in reader.members()]
    return found


@settings(max_examples=60, deadline=None)
@given(files, st.binary(max_size=30))
def test_what_zipfile_wrote_is_read(members: dict[str, bytes], comment: bytes) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = comment.replace(b"PK", b"")
        for number, (name, data) in enumerate(members.items()):
            with archive.open(name, "w", force_zip64=number % 2 == 1) as target:
                target.write(data)
    assert read(buffer.getvalue()) == [(i.filename, members[i.orig_filename]) for i in archive.infolist()]


MEMBERS = {"images/1.png": b"one" * 9, "ä.txt": b"two", "empty": b""}
WHOLE = written(MEMBERS).getvalue()
STREAMED = written(MEMBERS, streamed=True).getvalue()


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([WHOLE, STREAMED]), st.data())
def test_a_changed_byte_is_found_or_changes_nothing(whole: bytes, data: st.DataObject) -> None:
    """And where it is not found, zipfile reads the same."""
    at, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    changed = whole[:at] + bytes([value]) + whole[at + 1 :]
    try:
        found = read(changed)
    except FileProblem:
        return
    assert found == list(MEMBERS.items())
    with zipfile.ZipFile(io.BytesIO(changed)) as archive:
        assert [(i.filename, archive.read(i)) for i in archive.infolist()] == found


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_is_found(size: int) -> None:
    with pytest.raises(FileProblem):
        read(WHOLE[:size])


def deflated(data: bytes) -> bytes:
    return zipped(MEMBERS, compression=zipfile.ZIP_DEFLATED)


def unseekable(data: bytes) -> bytes:
    """With data descriptors: sizes and CRC behind the bytes."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *args: int) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr("a", b"x")
    return pipe.getvalue()


def directory_of_one_more(data: bytes) -> bytes:
    """The end record does not count the last entry."""
    end = data.rindex(b"PK\x05\x06")
    return data[: end + 8] + bytes([2, 0, 2, 0]) + data[end + 12 :]


def prefixed(data: bytes) -> bytes:
    return b"#!/bin/sh\n" + data


def two_names_for_one_file(data: bytes) -> bytes:
    return data[::-1].replace(b"images/1.png"[::-1], b"images/2.png"[::-1], 1)[::-1]


def comment_beyond_the_directory(data: bytes) -> bytes:
    last = data.rindex(b"PK\x01\x02")
    return data[: last + 32] + b"\1" + data[last + 33 :]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (deflated, "not stored"),
        (unseekable, "not stored"),
        (directory_of_one_more, "more entries"),
        (prefixed, "not where"),
        (comment_beyond_the_directory, "directory is damaged"),
        (two_names_for_one_file, "'images/2.png' has a header"),
        (lambda data: data.replace(b"oneone", b"oneOne"), "'images/1.png' is damaged"),
        (lambda data: b"", "empty"),
    ],
)
def test_each_damage_has_its_sentence(damage: Callable[[bytes], bytes], says: str) -> None:
    with pytest.raises(FileProblem, match=says):
        read(damage(WHOLE))


def test_a_size_that_lies_is_refused_before_it_is_read() -> None:
    data = bytearray(WHOLE)
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = b"\xff\xff\xff\x7f" * 2
    with pytest.raises(FileProblem, match="before the directory"):
        read(bytes(data))


def test_found_by_name() -> None:
    reader = ZipReader(io.BytesIO(WHOLE))
    assert [reader.read(m) for m in reader.find("ä.txt", "images/1.png")] == [b"two", b"one" * 9]
    with pytest.raises(FileProblem, match="'b' is not in"):
        reader.find("ä.txt", "b")


def test_a_name_that_comes_twice_is_not_found() -> None:
    end = WHOLE.rindex(b"PK\x05\x06")
    start = WHOLE.index(b"PK\x01\x02")
    entry = WHOLE[start : start + ENTRY.size + len("images/1.png")]
    directory = WHOLE[start:end] + entry
    twice = WHOLE[:start] + directory + END.pack(b"PK\x05\x06", 0, 0, 4, 4, len(directory), start, 0)
    with pytest.raises(FileProblem, match="twice"):
        ZipReader(io.BytesIO(twice)).find("images/1.png")
