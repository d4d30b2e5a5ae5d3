from __future__ import annotations

import io
import stat
import struct
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ServiceError
from service.formats.annotation_upload import read_annotations
from service.formats.archive import Archive
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem
from service.formats.zip_writer import ZipWriter
from tests.service.formats.uploads import coco_document, coco_members, faults, mask_members, write_zip

LIMITS = UploadLimits()


def opened(path: Path, limits: UploadLimits = LIMITS) -> list[str]:
    with Archive(path, limits) as archive:
        return [entry.path for entry in archive.entries]


def zip_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../x.png", "part"),
        ("a/../../x.png", "part"),
        ("/etc/passwd", "absolute"),
        ("C:/x.png", "absolute"),
        ("a\\b.png", "backslash"),
        ("images/CON.png", "reserves"),
        ("a//b.png", "part"),
        ("x" * 600, "longer"),
        ("inner.zip", "archive inside"),
        ("a\x07.png", "control"),
    ],
)
def test_bad_names_are_refused(tmp_path: Path, name: str, says: str) -> None:
    path = write_zip(tmp_path / "a.zip", {"images/1.png": b"x", name: b"y"})
    (message,) = faults(lambda: opened(path)).values()
    assert says in message


def test_a_nul_in_a_name_is_refused(tmp_path: Path) -> None:
    data = zip_bytes({"images/1.png": b"x", "aXb.png": b"y"}).replace(b"aXb.png", b"a\x00b.png")
    (tmp_path / "a.zip").write_bytes(data)
    assert any("control" in m for m in faults(lambda: opened(tmp_path / "a.zip")).values())


def test_a_name_without_a_character_is_refused(tmp_path: Path) -> None:
    """zipfile's `is_dir` looks at the last one."""
    with (tmp_path / "a.zip").open("w+b") as file, ZipWriter(file) as archive:
        archive.add("images/1.png", b"x")
        archive.add("", b"y")
        archive.finish()
    assert "empty" in faults(lambda: opened(tmp_path / "a.zip"))[""]
    data = zip_bytes({"images/1.png": b"x", "Xa.png": b"y"}).replace(b"Xa.png", b"\x00a.png")
    (tmp_path / "b.zip").write_bytes(data)
    assert any("control" in m for m in faults(lambda: opened(tmp_path / "b.zip")).values())


@pytest.mark.parametrize(("first", "second"), [("a.png", "A.png"), ("\u00e9.png", "e\u0301.png")])
def test_names_that_collide_are_refused(tmp_path: Path, first: str, second: str) -> None:
    path = write_zip(tmp_path / "a.zip", {first: b"x", second: b"y"})
    assert "same name" in faults(lambda: opened(path))[second]


def test_links_encryption_and_odd_compression_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
        archive.writestr("big.png", b"x" * 100, compress_type=zipfile.ZIP_LZMA)
    found = faults(lambda: opened(tmp_path / "a.zip"))
    assert "symbolic link" in found["link.png"]
    assert "stored or deflated" in found["big.png"]
    data = bytearray(zip_bytes({"a.png": b"x"}))
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "b.zip").write_bytes(data)
    assert faults(lambda: opened(tmp_path / "b.zip")) == {"a.png": "is encrypted"}


def test_bombs_are_refused_before_inflating(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"images/1.png": bytes(3 * 1024**2)})
    assert "100 times" in faults(lambda: opened(path))["images/1.png"]
    small = UploadLimits(max_total_bytes=1000, max_ratio=10_000)
    assert "archive" in faults(lambda: opened(path, small))
    many = write_zip(tmp_path / "b.zip", {f"{n}.png": b"" for n in range(20)})
    assert "more than 10 entries" in faults(lambda: opened(many, UploadLimits(max_entries=10)))["archive"]


def test_overlapping_entries_are_refused(tmp_path: Path) -> None:
    """Two directory entries that point at one file, the core of a non-recursive bomb."""
    data = zip_bytes({"a.png": b"same" * 50})
    start, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    record = data[start:end]
    tail = bytearray(data[end:])
    struct.pack_into("<HHLL", tail, 8, 2, 2, 2 * len(record), start)
    (tmp_path / "a.zip").write_bytes(data[:start] + record + record.replace(b"a.png", b"b.png") + bytes(tail))
    assert "overlaps" in " ".join(faults(lambda: opened(tmp_path / "a.zip")).values())


@pytest.mark.parametrize(("at", "value"), [(4, 1), (6, 1)])
def test_multi_disk_archives_are_refused(tmp_path: Path, at: int, value: int) -> None:
    data = bytearray(zip_bytes({"a.png": b"x"}))
    struct.pack_into("<H", data, data.rindex(b"PK\x05\x06") + at, value)
    (tmp_path / "a.zip").write_bytes(data)
    assert "disks" in faults(lambda: opened(tmp_path / "a.zip"))["archive"]


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x05\x06", b"not a zip" * 100, b"PK\x05\x06" + b"\xff" * 18])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    assert faults(lambda: opened(tmp_path / "a.zip")).keys() == {"archive"}


def test_a_lying_size_is_noticed_while_inflating(tmp_path: Path) -> None:
    data = bytearray(zip_bytes({"a.png": b"x" * 1000}))
    at = data.rindex(b"PK\x01\x02")
    for size in (10, 5000):
        struct.pack_into("<L", data, at + 24, size)
        (tmp_path / "a.zip").write_bytes(data)
        with Archive(tmp_path / "a.zip", LIMITS) as archive, pytest.raises(FileProblem):
            archive.read(archive.entries[0], 10**6)


def test_one_wrapping_folder_and_litter_are_looked_through(tmp_path: Path) -> None:
    names = ["set/images/1.png", "set/masks/1.png", "__MACOSX/set/._1.png", "set/.DS_Store"]
    assert opened(write_zip(tmp_path / "a.zip", dict.fromkeys(names, b"x"))) == ["images/1.png", "masks/1.png"]
    assert opened(write_zip(tmp_path / "b.zip", {"images/1.png": b"x"})) == ["images/1.png"]


def survives(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            list(read_annotations(file.name).images)
        except ServiceError:
            return


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_service_errors_only(data: bytes) -> None:
    survives(data)
    survives(b"PK\x03\x04" + data + b"PK\x05\x06" + data[:18].ljust(18, b"\0"))


VALID = [zip_bytes(coco_members(coco_document())), zip_bytes(mask_members())]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(VALID), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_uploads_raise_service_errors_only(data: bytes, damage: list[tuple[float, int]]) -> None:
    changed = bytearray(data)
    for where, value in damage:
        changed[int(where * (len(changed) - 1))] = value
    survives(bytes(changed))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(VALID), st.floats(0, 1), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6)
)
def test_damaged_directories_raise_service_errors_only(data: bytes, cut: float, damage: list[tuple[int, int]]) -> None:
    changed = bytearray(data)
    for back, value in damage:
        changed[-1 - back] = value
    survives(bytes(changed))
    survives(bytes(data[: int(cut * len(data))]))
