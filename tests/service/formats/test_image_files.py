from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.formats.image_files import decode_image, decode_values
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem
from tests.service.formats.uploads import picture, png

LIMITS = UploadLimits()


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_png_and_lossless_webp_keep_every_pixel_and_jpeg_nearly() -> None:
    image = picture(1)
    assert np.array_equal(decode_image(png(image), LIMITS), image)
    assert np.array_equal(decode_image(saved(Image.fromarray(image), "WEBP", lossless=True), LIMITS), image)
    smooth = np.full((16, 16, 3), 90, np.uint8)
    assert np.abs(decode_image(saved(Image.fromarray(smooth), "JPEG"), LIMITS).astype(int) - 90).max() < 3


def test_grey_palette_and_bilevel_become_rgb() -> None:
    grey = picture(2)[:, :, 0]
    assert np.array_equal(decode_image(png(grey), LIMITS), np.stack([grey] * 3, axis=2))
    indexed = Image.fromarray(grey).convert("P")
    assert decode_image(saved(indexed, "PNG"), LIMITS).shape == (*grey.shape, 3)
    assert set(np.unique(decode_image(saved(Image.fromarray(grey > 99), "PNG"), LIMITS))) <= {0, 255}


def test_sixteen_bits_are_divided_not_stretched() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    assert decode_image(png(values), LIMITS)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_alpha_is_composited_over_white() -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = [10, 20, 30, 255]
    decoded = decode_image(png(rgba), LIMITS)
    assert decoded[0, 0].tolist() == [10, 20, 30]
    assert decoded[1, 1].tolist() == [255, 255, 255]


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode_image(saved(cmyk, "JPEG"), LIMITS)[4, 4].astype(int)
    assert red[0] > 200
    assert red[1:].max() < 60


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(Image.fromarray(picture(3, 20, 40)), "JPEG", exif=exif)
    assert decode_image(data, LIMITS).shape == (40, 20, 3)


def test_animations_are_refused() -> None:
    frames = [Image.fromarray(picture(n)) for n in range(3)]
    for kind in ("PNG", "WEBP"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(FileProblem, match="animated"):
            decode_image(data, LIMITS)


def huge_png(width: int, height: int) -> bytes:
    """A header that promises a large image."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return body + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


@pytest.mark.parametrize("side", [13_000, 20_000, 2**31 - 1])
def test_large_pictures_are_refused_from_their_header(side: int) -> None:
    with pytest.raises(FileProblem):
        decode_image(huge_png(side, side), LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        saved(Image.new("RGB", (4, 4)), "GIF"),
        saved(Image.new("RGB", (4, 4)), "TIFF"),
        png(picture(1))[:-60],
        saved(Image.fromarray(picture(1, 64, 64)), "JPEG")[:300],
    ],
)
def test_other_kinds_and_cut_files_are_refused(data: bytes) -> None:
    with pytest.raises(FileProblem, match="not a readable"):
        decode_image(data, LIMITS)


def test_a_text_bomb_is_refused() -> None:
    body = b"zTXt" + b"k\0\0" + zlib.compress(bytes(80 * 1024**2), 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    whole = png(picture(1))
    with pytest.raises(FileProblem):
        decode_image(whole[:33] + chunk + whole[33:], LIMITS)


def test_mask_values_keep_palette_indices_and_refuse_colour() -> None:
    label = np.array([[0, 1], [7, 255]], np.uint8)
    indexed = Image.fromarray(label).convert("P")
    indexed.putdata(label.ravel().tolist())
    assert decode_values(saved(indexed, "PNG"), LIMITS).tolist() == label.tolist()
    assert decode_values(png(label), LIMITS).tolist() == label.tolist()
    assert decode_values(png(label.astype(np.uint16) * 200), LIMITS).max() == 51_000
    with pytest.raises(FileProblem, match="mode RGB"):
        decode_values(png(picture(1)), LIMITS)


SAMPLES = [png(picture(1)), saved(Image.fromarray(picture(1)), "JPEG"), saved(Image.fromarray(picture(1)), "WEBP")]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_damaged_images_decode_or_are_a_problem(data: bytes, damage: list[tuple[float, int]]) -> None:
    changed = bytearray(data)
    for where, value in damage:
        changed[int(where * (len(changed) - 1))] = value
    with contextlib.suppress(FileProblem):
        assert decode_image(bytes(changed), LIMITS).shape[2] == 3
