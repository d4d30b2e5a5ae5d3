"""Compact soft labels: the class distribution of each pixel in a few bytes.

What is stored is the fourth root of a probability in 63 equal steps (6 bits: the knee of bytes against what is lost,
benchmarks/README.md). A student trained at temperature 4 sees exactly that root (softmax(z / 4) is p ** (1/4)
renormalised), so its error is even over the whole range, where a linear byte would turn every probability below 0.002
into zero. Decoding raises to the fourth power and renormalises.

Up to `ALL` classes: one plane per class. More: per pixel the `TOP` likeliest classes (an index plane and a value
plane each) and one plane for the rest together, which decoding spreads evenly over the other classes.

Layout, little endian: `b"SL"`, version u8, flags u8 (1 = payload deflated), C u16, k u16 (0 = all classes), H u32, W u32,
then the planes, HW bytes each. Since version 2 a byte is what its pixel adds to the pixels above and to the left
(modulo 256): labels are flat or change evenly, so most bytes are near zero and deflate to three quarters or less.
Versions 1 and 2 have 255 steps instead of 63 and are read as before.
"""

from __future__ import annotations

import math
import struct
import zlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

HEADER = struct.Struct("<2sBBHHII")
MAGIC, VERSION, DEFLATED = b"SL", 3, 1
STEPS = {1: 255, 2: 255, 3: 63}
"""Version -> into how many equal steps the fourth roots from 0 to 1 are divided."""
ALL = 24
TOP = 8
LEVEL = 1
MAX_PLANE_BYTES = 4 * 1024**3


class SoftLabelError(ValueError):
    """The bytes are not a soft label of this form."""


def encode(probabilities_CHW: NDArray[np.float32]) -> bytes:
    """Probabilities in [0, 1] that sum to 1 over C (2 <= C <= 255) -> bytes. Raises `SoftLabelError`."""
    if probabilities_CHW.ndim != 3 or not 2 <= len(probabilities_CHW) <= 255:
        raise SoftLabelError(f"probabilities are CHW with 2 to 255 classes, not {probabilities_CHW.shape}")
    probabilities = np.asarray(probabilities_CHW, dtype=np.float32)
    total = probabilities.sum(axis=0)
    if not np.isfinite(total).all() or probabilities.min() < -1e-3 or np.abs(total - 1).max() > 1e-2:
        raise SoftLabelError("probabilities are finite, not negative, and sum to 1 over the classes")
    classes, height, width = probabilities.shape
    k = 0 if classes <= ALL else TOP
    planes = quantise(probabilities, STEPS[VERSION]) if k == 0 else _top_planes(probabilities, k)
    return HEADER.pack(MAGIC, VERSION, DEFLATED, classes, k, height, width) + pack(planes)


def decode(data: bytes) -> NDArray[np.float32]:
    """Bytes -> probabilities_CHW float32 that sum to 1 over C. Raises `SoftLabelError`."""
    version, flags, classes, k, height, width = _header(data)
    shape = (2 * k + 1 if k else classes, height, width)
    payload = data[HEADER.size :]
    planes = _planes(_inflate(payload, math.prod(shape)) if flags & DEFLATED else payload, shape)
    if version > 1:
        planes = _summed(planes)
    powers = _powers(STEPS[version])
    weights = powers[planes] if k == 0 else _spread(planes, powers, classes, k)
    total = weights.sum(axis=0)
    if not (total > 0).all():
        raise SoftLabelError("a pixel has no class")
    weights /= total
    return weights


def shape(data: bytes) -> tuple[int, int, int]:
    """(C, H, W) without inflating."""
    _, _, classes, _, height, width = _header(data)
    return classes, height, width


def pack(planes_KHW: NDArray[np.uint8]) -> bytes:
    """Byte planes as version 2 keeps them: differences along both sides, deflated as runs and single bytes."""
    differences = planes_KHW.copy()
    differences[:, 1:] -= planes_KHW[:, :-1]
    left = differences[:, :, :-1].copy()
    differences[:, :, 1:] -= left
    deflater = zlib.compressobj(LEVEL, strategy=zlib.Z_RLE)
    return deflater.compress(differences.tobytes()) + deflater.flush()


def unpack(data: bytes, shape_KHW: tuple[int, int, int]) -> NDArray[np.uint8]:
    """What `pack` was given, of this shape. Raises `SoftLabelError`."""
    return _summed(_planes(_inflate(data, math.prod(shape_KHW)), shape_KHW))


def quantise(probabilities: NDArray[np.float32], steps: int) -> NDArray[np.uint8]:
    """Fourth roots in so many equal steps, 0 to `steps`, of the shape given."""
    root = np.sqrt(np.sqrt(np.clip(probabilities, 0, 1)))
    quantised: NDArray[np.uint8] = np.rint(root * steps).astype(np.uint8)
    return quantised


@cache
def _powers(steps: int) -> NDArray[np.float32]:
    """What each of 256 bytes stands for; those beyond `steps` come from damage alone."""
    powers: NDArray[np.float32] = ((np.arange(256) / steps).clip(max=1) ** 4).astype(np.float32)
    return powers


def _top_planes(probabilities_CHW: NDArray[np.float32], k: int) -> NDArray[np.uint8]:
    """2k + 1 planes: k indices (likeliest first), k values, the rest."""
    top = np.argpartition(-probabilities_CHW, k, axis=0)[:k]
    values = np.take_along_axis(probabilities_CHW, top, axis=0)
    order = np.argsort(-values, axis=0, kind="stable")
    top, values = np.take_along_axis(top, order, axis=0), np.take_along_axis(values, order, axis=0)
    rest = np.clip(1 - values.sum(axis=0, keepdims=True), 0, 1)
    return np.concatenate([top.astype(np.uint8), *(quantise(part, STEPS[VERSION]) for part in (values, rest))])


def _spread(planes: NDArray[np.uint8], powers: NDArray[np.float32], classes: int, k: int) -> NDArray[np.float32]:
    indices, values, rest = planes[:k], powers[planes[k : 2 * k]], powers[planes[2 * k]]
    if indices.max(initial=0) >= classes:
        raise SoftLabelError("a class index is out of range")
    weights = np.repeat((rest / (classes - k))[None], classes, axis=0)
    np.put_along_axis(weights, indices.astype(np.int64), values, axis=0)
    return weights


def _planes(payload: bytes, shape_KHW: tuple[int, int, int]) -> NDArray[np.uint8]:
    if len(payload) != math.prod(shape_KHW):
        raise SoftLabelError(f"{len(payload)} bytes of planes where the header promises {math.prod(shape_KHW)}")
    return np.frombuffer(payload, np.uint8).reshape(shape_KHW)


def _summed(differences_KHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    columns = np.cumsum(differences_KHW, axis=2, dtype=np.uint8)
    return np.cumsum(columns, axis=1, dtype=np.uint8)


def _header(data: bytes) -> tuple[int, int, int, int, int, int]:
    if len(data) < HEADER.size:
        raise SoftLabelError("cut short before the end of the header")
    magic, version, flags, classes, k, height, width = HEADER.unpack_from(data)
    if magic != MAGIC or not 1 <= version <= VERSION:
        raise SoftLabelError(f"not a soft label of version 1 to {VERSION}")
    if not 2 <= classes <= 255 or k >= classes or (2 * k + 1) * height * width > MAX_PLANE_BYTES:
        raise SoftLabelError("the header names an impossible shape")
    return version, flags, classes, k, height, width


def _inflate(payload: bytes, size: int) -> bytes:
    inflater = zlib.decompressobj()
    try:
        return inflater.decompress(payload, size + 1)
    except zlib.error as error:
        raise SoftLabelError(f"the planes cannot be inflated: {error}") from error
