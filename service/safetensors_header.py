"""The header of a safetensors file: which tensors it holds, without loading any."""

from __future__ import annotations

import json
import math
from pathlib import Path

MAX_HEADER_BYTES = 100 << 20


def count_parameters(path: Path) -> int:
    """Number of weights in a safetensors file. Raises ValueError, with its reason, when it is not one."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError("is not a safetensors file: its header does not fit")
        try:
            header = json.loads(file.read(length))
            shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
            sizes = [math.prod(_side(side) for side in shape) for shape in shapes]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError("is not a safetensors file: its header cannot be read") from None
    return sum(sizes)


def _side(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**40:
        raise ValueError(value)
    return value
