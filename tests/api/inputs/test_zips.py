"""Inputs 27 to 31: zips that bomb, climb, lie, hold nothing, or hold the same thing twice."""

from __future__ import annotations

import struct
import zipfile

import pytest

from tests.api import archives
from tests.api.archives import SIZE, encoded, mask, mask_files, photo, zipped
from tests.api.inputs.served import MASKS, Served


def with_entries(**changes: bytes) -> bytes:
    return zipped({**mask_files(), **changes})


def directory_entry(data: bytes, name: bytes) -> int:
    """Where the directory's entry of that name begins."""
    return data.rfind(name) - 46


def test_input_27_a_bomb_is_422(served: Served) -> None:
    errors = served.refused_zip(archives.bomb())
    assert any("times its compressed size" in error["message"] for error in errors)


def test_input_27_archives_in_archives_are_422(served: Served) -> None:
    inner = zipped({f"{number}.zip": zipped({"0": bytes(99)}) for number in range(16)})
    errors = served.refused_zip(with_entries(**{f"images/{number}.zip": inner for number in range(16)}))
    assert len(errors) == 16


def test_input_27_entries_that_share_bytes_are_422(served: Served) -> None:
    errors = served.refused_zip(archives.overlapping())
    assert any("overlaps" in error["message"] for error in errors)


def test_input_27_a_lie_about_the_inflated_size_is_422(served: Served) -> None:
    """What inflates is counted, whatever the directory says."""
    data = bytearray(zipped({**mask_files(), "images/0.png": bytes(20 << 20)}, method=zipfile.ZIP_DEFLATED))
    at = directory_entry(bytes(data), b"images/0.png")
    data[at + 24 : at + 28] = struct.pack("<L", 1_000)
    [error] = served.refused_zip(bytes(data))
    assert error["place"] == "images/0.png"


@pytest.mark.parametrize(
    "name",
    ["../../evil.png", "/etc/evil.png", "images\\..\\evil.png", "C:/evil.png", "images/./a.png", "images/CON.png"],
)
def test_input_28_a_name_that_leaves_the_folder_is_422(served: Served, name: str) -> None:
    [error] = served.refused_zip(with_entries(**{name: photo()}))
    assert "name" in error["message"]


def test_input_28_a_link_is_422(served: Served) -> None:
    [error] = served.refused_zip(archives.linked(mask_files()))
    assert error["place"] == "images/link.png"


@pytest.mark.parametrize("names", [("images/A.png", "images/a.png"), ("images/\u00e9.png", "images/e\u0301.png")])
def test_input_28_two_names_for_one_file_are_422(served: Served, names: tuple[str, str]) -> None:
    errors = served.refused_zip(with_entries(**{names[0]: photo(), names[1]: photo(9)}))
    assert any("the same name" in error["message"] for error in errors)


def test_input_29_an_encrypted_zip_is_422(served: Served) -> None:
    errors = served.refused_zip(archives.encrypted(mask_files()))
    assert all("encrypted" in error["message"] for error in errors)


def test_input_29_one_disk_of_many_is_422(served: Served) -> None:
    data = bytearray(zipped(mask_files()))
    data[-18:-16] = struct.pack("<H", 3)
    assert "disks" in served.refused_zip(bytes(data))[0]["message"]


def test_input_29_more_entries_than_allowed_are_422(served: Served) -> None:
    for body in (zipped({str(number): b"" for number in range(1_001)}), claimed_entries(10**6)):
        assert "1,000 entries" in served.refused_zip(body)[0]["message"]


def claimed_entries(count: int) -> bytes:
    """A zip64 end record with so many entries, and a sound zip before it."""
    data = zipped(mask_files())
    end = data[-22:]
    directory_bytes, directory_at = struct.unpack("<LL", end[12:20])
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, directory_bytes, directory_at)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, len(data) - 22, 1)
    return data[:-22] + record + locator + end


@pytest.mark.parametrize("offset", [0, 2**40, 2**64 - 1])
def test_input_29_a_lying_zip64_record_is_422(served: Served, offset: int) -> None:
    data = zipped(mask_files())
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, offset, 1)
    served.refused_zip(data[:-22] + locator + data[-22:])


def test_input_30_an_empty_body_is_400(served: Served) -> None:
    served.refused(400, url=MASKS, content=b"", headers=archives.ZIP)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no entries"),
        ({**mask_files(), "images/0.png": b""}, "not a readable"),
        ({"masks/0.png": mask()}, "the mask of no image"),
        ({**mask_files(1), "masks/0.png": mask(value=0)}, "every labelled pixel is the background"),
        ({**mask_files(1), "masks/0.png": mask(value=255)}, "every labelled pixel is"),
    ],
)
def test_input_30_a_set_that_teaches_nothing_is_422_with_the_reason(
    served: Served, files: dict[str, bytes], message: str
) -> None:
    errors = served.refused_zip(zipped(files))
    assert any(message in error["message"] for error in errors), errors


def test_input_30_one_class_is_422_with_the_reason(served: Served) -> None:
    body = zipped({**mask_files(1), "masks/0.png": mask(value=0)})
    errors = served.refused_zip(body, url="/v1/annotation-sets?name=few&classes=cell")
    assert any("one class only" in error["message"] for error in errors)


def test_input_31_the_same_picture_twice_is_taken_once_in_a_pool_and_counted_in_a_set(served: Served) -> None:
    pool = served.http.post("/v1/image-pools", json={"name": "pool"}).json()
    from PIL import Image

    same = encoded(Image.new("RGB", (SIZE, SIZE), "red"))
    other_file = encoded(Image.new("RGB", (SIZE, SIZE), "red"), "WEBP", lossless=True)
    body = zipped({"a.png": same, "b.png": same, "c.webp": other_file, "d.png": photo()})
    answer = served.http.post(f"/v1/image-pools/{pool['id']}/images", content=body, headers=archives.ZIP).json()
    assert (answer["num_images"], answer["num_duplicates"]) == (2, 2)
    files = {**mask_files(), "images/0.png": same, "images/1.png": same}
    assert served.taken_zip(zipped(files))["statistics"]["duplicate_images"] == 1
