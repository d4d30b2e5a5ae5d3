"""Small pictures for whoever watches: labelled images with their overlays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.labelling import LabelledBatch
from service.formats.annotated_images import LabelClass
from service.formats.overlay import contact_sheet, overlay
from service.formats.png import encode_image_png

COLUMNS = 8
MAX_TILES = 16
MIN_SIDE = 96
"""Smaller images are enlarged to about this side, so that people can see them."""
MAX_SIDE = 256


def labelled_sheet(batch: LabelledBatch, classes: Sequence[LabelClass], scores: Sequence[float]) -> bytes:
    """PNG: rows of images, each above its overlay, the most certain first."""
    order = np.argsort(np.asarray(scores), kind="stable")[:MAX_TILES]
    tiles: list[NDArray[np.uint8]] = []
    for start in range(0, len(order), COLUMNS):
        row = order[start : start + COLUMNS]
        plain = [_shown(batch, index, classes, 0.0) for index in row]
        blank = [np.full_like(plain[0], 255)] * (COLUMNS - len(row))
        tiles += [*plain, *blank, *(_shown(batch, index, classes, 0.6) for index in row), *blank]
    return encode_image_png(contact_sheet(tiles, columns=COLUMNS))


def comparison_sheet(
    images_BHWC: NDArray[np.uint8],
    truth_BHW: NDArray[np.uint8],
    predicted_BHW: NDArray[np.uint8],
    classes: Sequence[LabelClass],
) -> bytes:
    """PNG of three rows: images, their true labels, the predicted ones."""
    scale = enlargement(images_BHWC.shape[2])
    tiles = [
        shrunk(overlay(image_HWC, label_HW, classes, opacity=opacity, scale=scale))
        for labels_BHW, opacity in ((truth_BHW, 0.0), (truth_BHW, 0.6), (predicted_BHW, 0.6))
        for image_HWC, label_HW in zip(images_BHWC, labels_BHW, strict=True)
    ]
    return encode_image_png(contact_sheet(tiles, columns=len(images_BHWC)))


def image_sheet(images_BHWC: NDArray[np.uint8]) -> bytes:
    """PNG of plain images in a grid."""
    scale = enlargement(images_BHWC.shape[2])
    tiles = [np.repeat(np.repeat(image, scale, axis=0), scale, axis=1) for image in images_BHWC[:64]]
    return encode_image_png(contact_sheet([shrunk(tile) for tile in tiles], columns=COLUMNS))


def enlargement(side: int) -> int:
    """Whole factor that makes small images visible."""
    return max(1, MIN_SIDE // max(1, side))


def shrunk(image_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Large images made smaller for the sheet."""
    step = -(-max(image_HWC.shape[:2]) // MAX_SIDE)
    return image_HWC[::step, ::step]


def _shown(batch: LabelledBatch, index: int, classes: Sequence[LabelClass], opacity: float) -> NDArray[np.uint8]:
    instances = None if batch.instances_BHW is None else batch.instances_BHW[index]
    image_HWC = batch.images_BHWC[index]
    shown = overlay(
        image_HWC,
        batch.labels_BHW[index],
        classes,
        opacity=opacity,
        instances_HW=instances,
        scale=enlargement(image_HWC.shape[1]),
    )
    return shrunk(shown)
