"""Label maps made visible: overlays and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.formats.annotated_images import IGNORE, Image_HWC, Instances_HW, LabelClass, Labels_HW
from service.formats.colors import default_colors, rgb

__all__ = ["contact_sheet", "default_colors", "overlay"]

T = TypeVar("T", bound=np.generic)

HATCH = np.array([255, 0, 255], np.float32)
"""Ignored pixels are hatched in magenta."""


def overlay(
    image_HWC: Image_HWC,
    label_HW: Labels_HW,
    classes: Sequence[LabelClass],
    *,
    opacity: float = 0.5,
    instances_HW: Instances_HW | None = None,
    outline: bool = True,
    scale: int = 1,
) -> NDArray[np.uint8]:
    """RGB uint8 (H * scale, W * scale, 3): class colours over the image, background left clear, instances outlined.

    `opacity` 0 is the image alone, 1 the colours alone. Enlarged without smoothing; outlines stay one pixel wide.
    """
    if image_HWC.shape[:2] != label_HW.shape:
        raise ValueError(f"image {image_HWC.shape[:2]} and label map {label_HW.shape} differ in size")
    alpha = float(np.clip(opacity, 0, 1))
    image, label = _enlarge(image_HWC, scale), _enlarge(label_HW, scale)
    table, strength = _tables(classes)
    weight = (alpha * strength[label])[:, :, None]
    mixed = image.astype(np.float32) * (1 - weight) + table[label] * weight
    rows, columns = np.indices(label.shape)
    hatched = (label == IGNORE) & ((rows + columns) // 2 % 4 == 0) & (alpha > 0)
    mixed[hatched] = HATCH
    if outline and instances_HW is not None and alpha > 0:
        edges = _edges(_enlarge(instances_HW, scale))
        mixed[edges] = np.where(mixed[edges].mean(axis=-1, keepdims=True) > 140, 0.0, 255.0)
    shown: NDArray[np.uint8] = np.rint(mixed).astype(np.uint8)
    return shown


def contact_sheet(tiles: Sequence[Image_HWC], *, columns: int = 8, gap: int = 4) -> NDArray[np.uint8]:
    """Tiles of one size in a grid on white, row by row."""
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    height, width = tiles[0].shape[:2]
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = gap + index // columns * (height + gap), gap + index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _enlarge(values: NDArray[T], scale: int) -> NDArray[T]:
    return values if scale <= 1 else values.repeat(scale, axis=0).repeat(scale, axis=1)


def _tables(classes: Sequence[LabelClass]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colour and strength (0 = clear) of each of the 256 label values."""
    table, strength = np.zeros((256, 3), np.float32), np.zeros(256, np.float32)
    for index, c in enumerate(classes):
        table[index], strength[index] = rgb(c.color), 0.0 if c.background else 1.0
    return table, strength


def _edges(instances_HW: Instances_HW) -> NDArray[np.bool_]:
    """Pixels of an instance whose right or lower neighbour belongs to another, and the other way round."""
    edges = np.zeros(instances_HW.shape, np.bool_)
    across, down = instances_HW[:, 1:] != instances_HW[:, :-1], instances_HW[1:] != instances_HW[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges & (instances_HW > 0)
