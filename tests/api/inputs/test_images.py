"""Inputs 19 to 26 and 48: pictures that bomb, move, lie, or come in odd forms; masks that do not fit."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.api import archives
from tests.api.archives import SIZE, ZIP, annotation, coco_files, encoded, mask, mask_files, photo, zipped
from tests.api.inputs.served import COCO, MASKS, Served, pixels_served

PIXELS = Image.new("RGB", (SIZE, SIZE), (200, 20, 30))


def with_image(data: bytes, size: tuple[int, int] = (SIZE, SIZE)) -> bytes:
    return zipped({**mask_files(), "images/0.png": data, "masks/0.png": mask(0, size)})


def refused_image(served: Served, data: bytes, message: str) -> None:
    """Refused as an image of a set and of a pool, with its place."""
    [error] = served.refused_zip(with_image(data))
    assert error["place"] == "images/0.png"
    assert message in error["message"]
    pool = served.http.post("/v1/image-pools", json={"name": "pool"}).json()
    [error] = served.refused_zip(zipped({"0.png": data}), url=f"/v1/image-pools/{pool['id']}/images")
    assert error["place"] == "0.png"


def decoded(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_input_19_a_picture_of_20000x20000_in_66_bytes_is_422(served: Served) -> None:
    data = archives.huge_png(20_000)
    assert len(data) < 100
    refused_image(served, data, "400000000 pixels")


def test_input_20_a_picture_of_13000x13000_is_422(served: Served) -> None:
    refused_image(served, archives.huge_png(13_000), "13000x13000")


def test_input_21_moving_pictures_are_422(served: Served) -> None:
    refused_image(served, archives.animated_gif(10_000), "not a readable")
    frames = [Image.new("RGB", (SIZE, SIZE), (number % 255, 0, 0)) for number in range(60)]
    for kind in ("PNG", "WEBP"):
        refused_image(served, encoded(frames[0], kind, save_all=True, append_images=frames[1:]), "animated")
    claimed = bytearray(encoded(frames[0], save_all=True, append_images=frames[1:]))
    at = claimed.find(b"acTL")
    claimed[at + 4 : at + 8] = struct.pack(">I", 10_000)
    claimed[at + 12 : at + 16] = struct.pack(">I", zlib.crc32(bytes(claimed[at : at + 12])))
    refused_image(served, bytes(claimed), "")


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_input_22_a_bomb_beside_the_pixels_is_422(served: Served, kind: bytes) -> None:
    whole = photo()
    bomb = chunk(kind, b"name\0\0" + zlib.compress(bytes(200 << 20), 9))
    refused_image(served, whole[:33] + bomb + whole[33:], "")


def test_input_23_a_cut_picture_is_422(served: Served) -> None:
    refused_image(served, photo()[:80], "not a readable")
    refused_image(served, encoded(PIXELS.resize((64, 64)), "JPEG")[:300], "not a readable")


def test_input_23_a_wrong_checksum_is_422_or_written_anew(served: Served) -> None:
    data = bytearray(photo())
    data[-2] ^= 0xFF  # of the last chunk, which holds nothing
    answer = served.http.post(MASKS, content=with_image(bytes(data)), headers=ZIP)
    assert answer.status_code in (201, 422)
    if answer.status_code == 201:
        Image.open(io.BytesIO(pixels_served(served, answer.json()["id"]))).verify()


@pytest.mark.parametrize(
    "data",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"<!doctype html><script>alert(1)</script>",
        b"%PDF-1.7\n1 0 obj",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n",
    ],
)
def test_input_24_another_kind_of_file_named_png_is_422(served: Served, data: bytes) -> None:
    """415 is for the body; a file inside the zip is a fault with its place, listed with all others."""
    refused_image(served, data, "its content is something else")
    served.refused(415, url=MASKS, content=data, headers={"content-type": "image/png"})


@pytest.mark.parametrize("tail", [zipped({"a": b"secret"}), b"<script>alert(1)</script>"])
def test_input_25_a_polyglot_is_taken_as_pixels_written_anew(served: Served, tail: bytes) -> None:
    before = served.everything()[1]
    made = served.taken_zip(with_image(encoded(PIXELS, "JPEG") + tail))
    assert tail not in pixels_served(served, made["id"])
    for path in served.everything()[1] - before:
        with open(path, "rb") as file:
            assert tail not in file.read()


def test_input_26_odd_forms_are_converted_as_documented(served: Served) -> None:
    alpha = PIXELS.convert("RGBA")
    alpha.putalpha(0)
    palette = PIXELS.quantize(4)
    forms = {
        "CMYK": (encoded(Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0)), "JPEG"), (230, 30, 30), 60),
        "16 bit grey": (encoded(Image.fromarray(np.full((SIZE, SIZE), 32_896, np.uint16))), (128, 128, 128), 0),
        "transparent": (encoded(alpha), (255, 255, 255), 0),
        "palette": (encoded(palette), (200, 20, 30), 3),
        "transparent palette": (encoded(palette, transparency=0), (255, 255, 255), 3),
        "grey": (encoded(PIXELS.convert("L")), (75, 75, 75), 3),
    }
    for name, (data, wanted, tolerance) in forms.items():
        made = served.taken_zip(with_image(data))
        found = decoded(pixels_served(served, made["id"]))[8, 8].astype(int)
        assert np.abs(found - wanted).max() <= tolerance, (name, found)


def test_input_26_a_turned_picture_is_turned_before_its_annotations_are_checked(served: Served) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)  # seen as 20 wide, 40 high
    for height, width, good in ((40, 20, True), (20, 40, False)):
        images = [{"id": 1, "file_name": "0.jpg", "height": height, "width": width}]
        files = coco_files(1, images=images, annotations=[annotation(1)])
        body = zipped({"annotations.json": files["annotations.json"], "images/0.jpg": turned})
        if good:
            assert served.taken_zip(body, url=COCO)["image_height"] == 40
        else:
            served.refused_zip(body, url=COCO)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (mask(0, (SIZE, SIZE + 1)), "17x16"),
        (photo(), "mode RGB"),
        (mask(value=77), "has the value 77"),
    ],
)
def test_input_48_a_mask_that_does_not_fit_is_422(served: Served, data: bytes, message: str) -> None:
    [error] = served.refused_zip(zipped({**mask_files(), "masks/0.png": data}))
    assert error["place"] == "masks/0.png"
    assert message in error["message"]
