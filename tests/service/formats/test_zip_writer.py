from __future__ import annotations

import io
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.formats.zip_reader import ZipReader
from service.formats.zip_writer import ZipWriter

names = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=12)
files = st.dictionaries(names, st.binary(max_size=200), max_size=6)


def written(members: dict[str, bytes], *, streamed: bool = False, file: io.BytesIO | None = None) -> io.BytesIO:
    file = file or io.BytesIO()
    with ZipWriter(file) as archive:
        for name, data in members.items():
            if streamed:
                archive.add_chunks(name, [data[:3], data[3:]])
            else:
                archive.add(name, data)
        archive.finish()
    return file


@settings(max_examples=60, deadline=None)
@given(files, st.booleans())
def test_zipfile_reads_back_exactly_what_was_written(members: dict[str, bytes], streamed: bool) -> None:
    with zipfile.ZipFile(written(members, streamed=streamed)) as archive:
        assert archive.testzip() is None
        assert [(i.orig_filename, archive.read(i)) for i in archive.infolist()] == list(members.items())
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())


@settings(max_examples=60, deadline=None)
@given(files)
def test_the_bytes_are_those_of_zipfile(members: dict[str, bytes]) -> None:
    theirs = io.BytesIO()
    with zipfile.ZipFile(theirs, "w") as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x", (1980, 1, 1, 0, 0, 0))
            info.filename, info.external_attr, info.create_system = name, 0o644 << 16, 3
            archive.writestr(info, data)
    assert written(members).getvalue() == theirs.getvalue()


@pytest.mark.parametrize("finishes", [1, 2, 3])
def test_a_file_added_to_a_whole_zip_takes_the_place_of_its_directory(finishes: int) -> None:
    file = io.BytesIO()
    with ZipWriter(file) as archive:
        archive.add("a", b"one")
        for _ in range(finishes):
            archive.finish()
        assert zipfile.ZipFile(file).namelist() == ["a"]
        archive.add_chunks("b", [b"two"])
        archive.add("c", b"three")
        archive.finish()
    together = io.BytesIO()
    with ZipWriter(together) as archive:
        archive.add("a", b"one")
        archive.add_chunks("b", [b"two"])
        archive.add("c", b"three")
        archive.finish()
    assert file.getvalue() == together.getvalue()


def test_a_directory_beyond_4_gib_is_found(tmp_path: Path) -> None:
    """The file is sparse: the zip begins behind five gibibytes of nothing."""
    path = tmp_path / "a.zip"
    with path.open("w+b") as file:
        file.seek(5 << 30)
        with ZipWriter(file, tmp_path) as archive:
            archive.add("near/1.png", b"image")
            archive.add_chunks("document", [b"[", b"]"])
            archive.finish()
            archive.add("later", b"report")
            archive.finish()
        reader = ZipReader(file)
        assert [(m.name, reader.read(m)) for m in reader.members()] == [
            ("near/1.png", b"image"),
            ("document", b"[]"),
            ("later", b"report"),
        ]
        assert min(m.offset for m in reader.members()) == 5 << 30
    with zipfile.ZipFile(path) as opened:
        assert opened.testzip() is None
        assert [i.header_offset >> 30 for i in opened.infolist()] == [5, 5, 5]
    assert os.stat(path).st_blocks * 512 < 1 << 20
    check_with_unzip(path)


@pytest.mark.parametrize("count", [65_534, 65_535, 65_537])
def test_more_files_than_16_bits_count(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.zip"
    with path.open("w+b") as file, ZipWriter(file) as archive:
        for number in range(count):
            archive.add(f"{number}", b"")
        archive.finish()
        reader = ZipReader(file)
        assert sum(1 for _ in reader.members()) == count
    with zipfile.ZipFile(path) as opened:
        assert len(opened.infolist()) == count
        assert opened.namelist()[-1] == f"{count - 1}"


class Hollow(io.FileIO):
    """A file that passes over zeros instead of writing them."""

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self.seek(len(data), 1) and len(data) if data is ZEROS else super().write(data)


ZEROS = bytes(1 << 26)


@pytest.mark.slow
def test_a_file_larger_than_4_gib(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with Hollow(path, "w+") as file, ZipWriter(file) as archive:  # type: ignore[arg-type]
        archive.add_chunks("large", (ZEROS for _ in range(65)))
        archive.add("small", b"x")
        archive.finish()
        large, small = ZipReader(file).members()  # type: ignore[arg-type]
        assert (large.size, small.size) == (65 << 26, 1)
    with zipfile.ZipFile(path) as opened:
        assert opened.getinfo("large").file_size == 65 << 26
        assert opened.read("small") == b"x"


def test_a_name_without_end_is_refused() -> None:
    with ZipWriter(io.BytesIO()) as archive, pytest.raises(ValueError, match="does not fit"):
        archive.add("x" * 65_536, b"")


def check_with_unzip(path: Path) -> None:
    """Info-ZIP is of another make than Python's zipfile; where it is installed, it must find nothing."""
    if unzip := shutil.which("unzip"):
        done = subprocess.run([unzip, "-t", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
