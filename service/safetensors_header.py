"""A safetensors file from somebody's folder, checked before any library loads it: header, layout, sizes, finite values.

Libraries refuse most broken headers, and take weights that are not finite; a network of those fails hours later.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_HEADER_BYTES = 100 << 20
MAX_TENSORS = 100_000
MAX_SIDE = 2**40
CHUNK_BYTES = 16 << 20
METADATA = "__metadata__"

BYTES_PER_VALUE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
"""Kinds of numbers that networks here are made of."""

EXPONENTS: dict[str, tuple[np.dtype[Any], int]] = {
    "F64": (np.dtype("<u8"), 0x7FF0_0000_0000_0000),
    "F32": (np.dtype("<u4"), 0x7F80_0000),
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
}
"""Kind -> its bits as a whole number, and the exponent bits that are all set in what is not finite."""


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header describes it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    begin: int
    """First byte after the header."""
    end: int

    @property
    def num_values(self) -> int:
        """Product of the sides; 1 for a scalar."""
        return math.prod(self.shape)


def read_header(path: Path) -> tuple[list[TensorEntry], int]:
    """The tensors in the order of their bytes, and where the first byte lies in the file.

    Raises ValueError, with its reason, unless the tensors fill the file without overlap, hole or rest.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise ValueError("is not a safetensors file: its header does not fit")
        document = _parse(file.read(length))
    if len(document) > MAX_TENSORS:
        raise ValueError(f"has {len(document):,} tensors; at most {MAX_TENSORS:,} are taken")
    entries = [_entry(name, value) for name, value in document.items() if name != METADATA]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    at = 0
    for entry in entries:
        if entry.begin != at:
            raise ValueError(f"has a hole or an overlap before the tensor {entry.name[:100]}")
        at = entry.end
    if at != size - 8 - length:
        raise ValueError("has bytes that no tensor names, or lacks some")
    return entries, 8 + length


def count_parameters(path: Path) -> int:
    """Number of weights in a safetensors file. Raises ValueError, with its reason, when it is not one."""
    return sum(entry.num_values for entry in read_header(path)[0])


def require_finite(path: Path) -> None:
    """Raises ValueError, naming the tensor, for values that are not finite; reads the file once."""
    entries, offset = read_header(path)
    with path.open("rb") as file:
        for entry in entries:
            if entry.kind not in EXPONENTS:
                continue
            file.seek(offset + entry.begin)
            kind, exponent = EXPONENTS[entry.kind]
            for chunk in _chunks(file.read, entry.end - entry.begin):
                if ((np.frombuffer(chunk, kind) & exponent) == exponent).any():
                    raise ValueError(f"has a tensor whose values are not all finite: {entry.name[:100]}")


def _chunks(read: Any, num_bytes: int) -> Iterator[bytes]:
    while num_bytes > 0:
        chunk = read(min(CHUNK_BYTES, num_bytes))
        num_bytes -= len(chunk)
        yield chunk


def _parse(header: bytes) -> dict[str, Any]:
    try:
        document = json.loads(header, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise ValueError("is not a safetensors file: its header cannot be read") from None
    if not isinstance(document, dict):
        raise ValueError("is not a safetensors file: its header is no table")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("repeated")
    return document


def _entry(name: str, value: Any) -> TensorEntry:
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"is not a safetensors file: the tensor {name[:100]} is not described")
    kind, shape, span = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(kind, str) or kind not in BYTES_PER_VALUE:
        raise ValueError(
            f"has a tensor {name[:100]} of the kind {str(kind)[:20]}; known are {', '.join(BYTES_PER_VALUE)}"
        )
    if not _are_sizes(shape) or not _are_sizes(span) or len(span) != 2:
        raise ValueError(f"has a tensor {name[:100]} whose shape or place makes no sense")
    entry = TensorEntry(name, kind, tuple(shape), *span)
    if entry.end - entry.begin != entry.num_values * BYTES_PER_VALUE[kind]:
        raise ValueError(f"has a tensor {name[:100]} whose bytes do not fit its shape")
    return entry


def _are_sizes(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 16 and all(type(v) is int and 0 <= v < MAX_SIDE for v in value)
