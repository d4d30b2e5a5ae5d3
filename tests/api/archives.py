"""Zips as users send them, sound and otherwise."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

ZIP = {"content-type": "application/zip"}
SIZE = 16


def zipped(files: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """These files in this order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(number: int = 0, size: tuple[int, int] = (SIZE, SIZE)) -> bytes:
    """A PNG of noise (height, width), another for each number."""
    pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels))


def mask(number: int = 0, size: tuple[int, int] = (SIZE, SIZE), value: int = 1) -> bytes:
    """A grey index mask with a square of `value`."""
    labels = np.zeros(size, np.uint8)
    labels[4 : 8 + number % 4, 4:10] = value
    return encoded(Image.fromarray(labels))


def mask_files(count: int = 3) -> dict[str, bytes]:
    """Images and index masks of two classes."""
    files = {f"images/{i}.png": photo(i) for i in range(count)}
    return files | {f"masks/{i}.png": mask(i) for i in range(count)}


def coco_files(count: int = 2, **changes: Any) -> dict[str, bytes]:
    """Images and a COCO document: one square polygon each, two categories."""
    document: dict[str, Any] = {
        "images": [{"id": i + 1, "file_name": f"images/{i}.png", "height": SIZE, "width": SIZE} for i in range(count)],
        "categories": [{"id": 1, "name": "cell"}, {"id": 2, "name": "debris"}],
        "annotations": [annotation(i + 1, image_id=i + 1, category_id=i % 2 + 1) for i in range(count)],
    }
    files = {f"images/{i}.png": photo(i) for i in range(count)}
    return files | {"annotations.json": json.dumps({**document, **changes}).encode()}


def annotation(number: int, **changes: Any) -> dict[str, Any]:
    """One COCO annotation: a polygon unless a segmentation is given."""
    values = {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [[2, 2, 10, 2, 10, 10, 2, 10]],
        "bbox": [2, 2, 8, 8],
        "area": 64,
        "iscrowd": 0,
    }
    return {**values, **changes}


def huge_png(side: int) -> bytes:
    """A PNG of a few bytes that claims side x side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def animated_gif(frames: int = 5) -> bytes:
    """A GIF that moves."""
    images = [Image.new("RGB", (SIZE, SIZE), (i * 9 % 255, 0, 0)) for i in range(frames)]
    return encoded(images[0], "GIF", save_all=True, append_images=images[1:])


def encrypted(files: Mapping[str, bytes]) -> bytes:
    """The same zip with the encryption flag set on every entry."""
    data = bytearray(zipped(files))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= 1
            at = data.find(signature, at + 4)
    return bytes(data)


def linked(files: Mapping[str, bytes]) -> bytes:
    """The same zip with one more entry that is a symbolic link."""
    buffer = io.BytesIO(zipped(files))
    with zipfile.ZipFile(buffer, "a") as archive:
        info = zipfile.ZipInfo("images/link.png")
        info.create_system = 3
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return buffer.getvalue()


def bomb(megabytes: int = 16) -> bytes:
    """A zip of an image that inflates a thousandfold."""
    return zipped({**mask_files(), "images/0.png": bytes(megabytes << 20)}, method=zipfile.ZIP_DEFLATED)


def overlapping() -> bytes:
    """Two directory entries that share one body."""
    files = mask_files()
    data = bytearray(zipped(files))
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    return bytes(data)
