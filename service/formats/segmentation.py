"""A COCO `segmentation` value -> checked counts of one mask. Polygons reach the rasteriser only after every check."""

from __future__ import annotations

from typing import Any

import hotcoco.mask
import numpy as np

from service.formats import rle
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem
from service.formats.strict_documents import is_whole


def segmentation_counts(value: object, height: int, width: int, limits: UploadLimits) -> rle.Counts:
    """RLE (list or string) or polygons -> counts over height x width.

    Several polygons are parts of one mask and are united; holes need RLE. Raises `FileProblem` with the part at fault.
    """
    if isinstance(value, dict):
        return _rle_counts(value, height, width)
    if isinstance(value, list):
        return _polygon_counts(value, height, width, limits)
    raise FileProblem("is missing; a box alone is no mask" if value is None else "is neither polygons nor RLE")


def _rle_counts(value: dict[str, Any], height: int, width: int) -> rle.Counts:
    size = value.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(is_whole(v) for v in size)):
        raise FileProblem("is not [height, width]", ".size")
    if size != [height, width]:
        raise FileProblem(f"is [{size[0]}, {size[1]}] but the image is [{height}, {width}]"[:120], ".size")
    counts = value.get("counts")
    try:
        if isinstance(counts, str):
            return rle.counts_from_string(counts, height, width)
        return rle.counts_from_list(counts, height, width)
    except FileProblem as problem:
        raise FileProblem(str(problem), ".counts") from problem


def _polygon_counts(parts: list[Any], height: int, width: int, limits: UploadLimits) -> rle.Counts:
    if not parts:
        raise FileProblem("has no polygon")
    if len(parts) > limits.max_polygon_parts:
        raise FileProblem(f"has {len(parts):,} polygons; at most {limits.max_polygon_parts:,} are allowed")
    for index, part in enumerate(parts):
        if fault := _polygon_fault(part, 2 * max(height, width), limits):
            raise FileProblem(fault, f"[{index}]")
    polygons = [[float(v) for v in part] for part in parts]
    regions = hotcoco.mask.frPyObjects(polygons, height, width)
    merged = regions[0] if len(regions) == 1 else hotcoco.mask.merge(regions)
    return rle.counts_from_string(merged["counts"], height, width)


def _polygon_fault(part: object, bound: int, limits: UploadLimits) -> str | None:
    if not isinstance(part, list):
        return "is not a list of x, y, x, y, ..."
    if len(part) > 2 * limits.max_polygon_points:
        return f"has {len(part) // 2:,} points; at most {limits.max_polygon_points:,} are allowed"
    if len(part) < 6:
        return "has fewer than three points"
    if len(part) % 2:
        return "has an odd number of coordinates"
    if set(map(type, part)) - {int, float}:
        return "holds something other than numbers"
    if not all(-bound <= v <= bound for v in part):  # false for NaN too
        return "has a coordinate that is not finite or lies far outside the image"
    return None


def area(counts: rle.Counts) -> int:
    """Pixels of a mask given by its counts."""
    return int(np.sum(counts[1::2]))
