"""The annotations of one image -> one label map.

Where annotations overlap, the smaller lies on top of the larger, and of two equal ones the later: an eye stays visible
on its face whatever the order in the file. Crowd regions of things, and the image's own `ignore` region, lie below
everything: their pixels are ignored unless an annotation decides them. `iscrowd` on a region class means nothing,
since several exporters set it on every mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.formats import rle
from service.formats.annotated_images import Instances_HW
from service.formats.coco_document import CocoAnnotation, CocoImage
from service.formats.limits import UploadLimits
from service.formats.problems import ProblemList
from service.formats.segmentation import area, segmentation_counts

NONE = -1
UNDECIDED = -2
MAX_INSTANCES = 65_535


@dataclass
class Painting:
    """Positions in the category list, HW int16; `NONE` = not annotated, `UNDECIDED` = ignore."""

    index_HW: NDArray[np.int16]
    instances_HW: Instances_HW
    """From 1 in file order on things; 0 elsewhere."""
    num_instances: int = 0
    """Those that can be seen."""
    painted_pixels: int = 0
    overlap_pixels: int = 0
    empty_annotations: int = 0
    hidden_instances: int = 0
    """Instances that others cover completely."""
    crowds: int = 0


@dataclass(frozen=True)
class _Layer:
    counts: rle.Counts
    area: int
    value: int
    instance: int
    """0 for regions."""


def paint(image: CocoImage, things: frozenset[int], limits: UploadLimits, problems: ProblemList) -> Painting:
    """Checks and paints every annotation of an image; `things` are positions in the category list."""
    shape = (image.width, image.height)  # transposed: RLE runs down the columns
    canvas, ids = np.full(shape, NONE, np.int16), np.zeros(shape, np.uint16)
    painting = Painting(canvas.T, ids.T)
    layers = _layers(image, things, limits, problems, painting)
    for layer in layers:
        span, mask = _span(layer.counts)
        under = canvas.reshape(-1)[span]
        painting.overlap_pixels += int(np.count_nonzero(under[mask] >= 0))
        under[mask] = layer.value
        ids.reshape(-1)[span][mask] = layer.instance
        painting.painted_pixels += layer.area
    painting.num_instances = int(np.count_nonzero(np.unique(ids)))
    painting.hidden_instances = sum(layer.instance > 0 and layer.area > 0 for layer in layers) - painting.num_instances
    return painting


def _layers(
    image: CocoImage, things: frozenset[int], limits: UploadLimits, problems: ProblemList, painting: Painting
) -> list[_Layer]:
    """From the bottom up."""
    below: list[_Layer] = []
    above: list[_Layer] = []
    if image.ignore is not None:
        with problems.at(f"{image.place}.ignore"):
            counts = segmentation_counts(image.ignore, image.height, image.width, limits)
            below.append(_Layer(counts, area(counts), UNDECIDED, 0))
    if len(image.annotations) > MAX_INSTANCES:
        problems.add(image.place, f"has more than {MAX_INSTANCES:,} annotations")
        return []
    for number, annotation in enumerate(image.annotations, start=1):
        with problems.at(f"{annotation.place}.segmentation"):
            counts = segmentation_counts(annotation.segmentation, image.height, image.width, limits)
            layer = _layer(annotation, counts, number, things)
            painting.empty_annotations += layer.area == 0
            painting.crowds += layer.value == UNDECIDED
            (below if layer.value == UNDECIDED else above).append(layer)
    return below + sorted(above, key=lambda layer: -layer.area)  # stable: the later of equals on top


def _layer(annotation: CocoAnnotation, counts: rle.Counts, number: int, things: frozenset[int]) -> _Layer:
    thing = annotation.category in things
    if thing and annotation.crowd:
        return _Layer(counts, area(counts), UNDECIDED, 0)
    return _Layer(counts, area(counts), annotation.category, number if thing else 0)


def _span(counts: rle.Counts) -> tuple[slice, NDArray[np.bool_]]:
    """The part of the flat canvas from the first to the last one, and which of its pixels are set."""
    ends = np.cumsum(counts)
    set_runs = np.flatnonzero(counts[1::2]) * 2 + 1
    if not len(set_runs):
        return slice(0, 0), np.zeros(0, np.bool_)
    first, last = int(set_runs[0]), int(set_runs[-1])
    runs = counts[first : last + 1]
    return slice(int(ends[first - 1]), int(ends[last])), np.repeat(np.arange(len(runs)) % 2 == 0, runs)
