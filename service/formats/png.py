"""PNG bytes that this project writes itself: fast, lossless, the same bytes each time. Uploads: see `image_files`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.formats.annotated_images import Image_HWC, Instances_HW, Labels_HW

COMPRESSION = 1
"""zlib level: 36 images of 512x512 per second and core, against 13 at level 6, for 1.5 % more bytes."""


def encode_image_png(image_HWC: Image_HWC) -> bytes:
    """RGB uint8 HWC -> PNG."""
    if image_HWC.dtype != np.uint8 or image_HWC.ndim != 3 or image_HWC.shape[2] != 3:
        raise ValueError(f"an image is uint8 HWC with 3 channels, not {image_HWC.dtype} {image_HWC.shape}")
    return _png(Image.fromarray(np.ascontiguousarray(image_HWC)))


def encode_label_png(label_HW: Labels_HW, palette: Sequence[tuple[int, int, int]] | None = None) -> bytes:
    """Class indices 0..255 HW -> indexed 8-bit PNG; the value is the class, the palette only colours it for the eye."""
    if label_HW.dtype != np.uint8 or label_HW.ndim != 2:
        raise ValueError(f"a label map is uint8 HW, not {label_HW.dtype} {label_HW.shape}")
    image = Image.frombytes("P", (label_HW.shape[1], label_HW.shape[0]), label_HW.tobytes())
    image.putpalette(_palette(palette)[: 3 * (int(label_HW.max(initial=0)) + 1)])
    return _png(image, bits=8)


def encode_instances_png(instances_HW: Instances_HW) -> bytes:
    """Instance ids 0..65535 HW -> 16-bit grey PNG."""
    if instances_HW.dtype != np.uint16 or instances_HW.ndim != 2:
        raise ValueError(f"instance ids are uint16 HW, not {instances_HW.dtype} {instances_HW.shape}")
    return _png(Image.fromarray(np.ascontiguousarray(instances_HW)))


def decode_plain_png(data: bytes) -> NDArray[Any]:
    """The pixel values of a PNG this project wrote: RGB HWC, palette indices HW, or 16-bit HW.

    Raises `OSError`, `SyntaxError` or `ValueError` for what is none.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            return np.array(image)
    except Image.DecompressionBombError as error:
        raise ValueError(f"an image of this size is none of ours: {error}") from error


def _palette(colors: Sequence[tuple[int, int, int]] | None) -> list[int]:
    """768 values: the given colours, then those of the PASCAL VOC map, which most viewers expect."""
    table = _voc_colors().copy()
    for index, color in enumerate(colors or ()):
        table[index] = color
    values: list[int] = table.reshape(-1).tolist()
    return values


@cache
def _voc_colors() -> NDArray[np.uint8]:
    """256 x 3: bit b of a channel is bit 3 * (7 - b) + channel of the index."""
    table = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        shift = np.arange(256) >> (3 * bit)
        table |= (np.stack([shift, shift >> 1, shift >> 2], axis=1) & 1).astype(np.uint8) << (7 - bit)
    return table


def _png(image: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=COMPRESSION, **options)
    return buffer.getvalue()
