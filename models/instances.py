"""Instances by a contour channel: what a network predicts for classes whose objects are counted.

A thing class adds one *contour* channel after the N class channels: the object's own border pixels (inner contour).
Two touching objects are then divided by contour pixels, and a watershed from the interiors gives each its pixels back.
Semantic scores fold the contour into its class. Axes: B batch, C channel (N classes, then contours), H, W.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries, watershed

from models.contracts import IGNORE, ClassSpec

CONTOUR_SUFFIX = " contour"


def channel_names(classes: Sequence[ClassSpec]) -> list[str]:
    """Names of a network's outputs: every class, then `"{thing} contour"` for every thing."""
    return [spec.name for spec in classes] + [spec.name + CONTOUR_SUFFIX for spec in classes if spec.thing]


def channel_classes(classes: Sequence[ClassSpec]) -> list[int]:
    """Class index of every output channel: identity for classes, the thing's own index for its contour."""
    return list(range(len(classes))) + [index for index, spec in enumerate(classes) if spec.thing]


def contour_channel(class_index: int, classes: Sequence[ClassSpec]) -> int:
    """Output channel that holds the contour of a thing class."""
    return len(classes) + sum(spec.thing for spec in classes[:class_index])


def encode_channels(label_HW: np.ndarray, instances_HW: np.ndarray | None, classes: Sequence[ClassSpec]) -> np.ndarray:
    """Label map and instance ids -> channel map (uint8 HW): a thing's inner contour gets its contour channel; 255 stays."""
    channels_HW = label_HW.astype(np.uint8).copy()
    if instances_HW is None:
        instances_HW = _components(label_HW, classes)
    # The frame is no contour: an object cut by the tile's border goes on outside it.
    contour_HW = find_boundaries(np.pad(instances_HW, 1, mode="edge"), connectivity=1, mode="inner")[1:-1, 1:-1]
    for index, spec in enumerate(classes):
        if spec.thing:
            channels_HW[contour_HW & (label_HW == index)] = contour_channel(index, classes)
    return channels_HW


def fold_labels(channels_BHW: np.ndarray, classes: Sequence[ClassSpec]) -> np.ndarray:
    """Channel indices -> class indices (uint8), contours counted to their class; 255 stays."""
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[: len(channel_classes(classes))] = channel_classes(classes)
    folded_BHW: np.ndarray = table[channels_BHW]
    return folded_BHW


def decode_instances(probabilities_CHW: np.ndarray, classes: Sequence[ClassSpec], *, min_pixels: int = 4) -> np.ndarray:
    """Channel probabilities -> instance ids (uint16 HW, 1-based, 0 = no thing), by watershed from the interiors.

    `min_pixels`: interiors smaller than this seed no object; whole objects smaller than this are dropped.
    """
    channels_HW = probabilities_CHW.argmax(axis=0).astype(np.uint8)
    label_HW = fold_labels(channels_HW, classes)
    instances_HW = np.zeros(label_HW.shape, dtype=np.uint16)
    for index, spec in enumerate(classes):
        if not spec.thing:
            continue
        own_HW = label_HW == index
        interior_HW = own_HW & (channels_HW == index)
        barrier_HW = probabilities_CHW[contour_channel(index, classes)]
        objects_HW = _grow(own_HW, interior_HW, barrier_HW, min_pixels)
        new_HW = objects_HW > 0
        instances_HW[new_HW] = objects_HW[new_HW] + instances_HW.max()
    return instances_HW


def instance_scores(
    probabilities_CHW: np.ndarray, instances_HW: np.ndarray, classes: Sequence[ClassSpec]
) -> dict[int, tuple[int, float]]:
    """Instance id -> (class index, mean probability of that class with its contour over the instance's pixels)."""
    label_HW = fold_labels(probabilities_CHW.argmax(axis=0).astype(np.uint8), classes)
    folded_NHW = fold_probabilities(probabilities_CHW[None], classes)[0]
    scores: dict[int, tuple[int, float]] = {}
    for instance in np.unique(instances_HW[instances_HW > 0]):
        inside_HW = instances_HW == instance
        index = int(np.bincount(label_HW[inside_HW]).argmax())
        scores[int(instance)] = (index, float(folded_NHW[index][inside_HW].mean()))
    return scores


def fold_probabilities(probabilities_BCHW: np.ndarray, classes: Sequence[ClassSpec]) -> np.ndarray:
    """Channel probabilities -> class probabilities BNHW: a contour's share is added to its class."""
    folded_BNHW = probabilities_BCHW[:, : len(classes)].copy()
    for channel, index in enumerate(channel_classes(classes)):
        if channel >= len(classes):
            folded_BNHW[:, index] += probabilities_BCHW[:, channel]
    return folded_BNHW


def _components(label_HW: np.ndarray, classes: Sequence[ClassSpec]) -> np.ndarray:
    """Connected parts of every thing class, for label maps that came without instance ids."""
    instances_HW = np.zeros(label_HW.shape, dtype=np.int32)
    for index, spec in enumerate(classes):
        if spec.thing:
            parts_HW, _ = ndimage.label(label_HW == index)
            instances_HW[parts_HW > 0] = parts_HW[parts_HW > 0] + instances_HW.max()
    return instances_HW


def _grow(own_HW: np.ndarray, interior_HW: np.ndarray, barrier_HW: np.ndarray, min_pixels: int) -> np.ndarray:
    """Seeds (connected interiors) grown over the class's pixels, low barrier first; seedless parts become one object each."""
    seeds_HW, _ = ndimage.label(interior_HW)
    sizes = np.bincount(seeds_HW.ravel())
    seeds_HW[(sizes < min_pixels)[seeds_HW]] = 0
    parts_HW, _ = ndimage.label(own_HW)
    seeded = np.unique(parts_HW[seeds_HW > 0])
    orphans_HW = own_HW & ~np.isin(parts_HW, seeded)
    seeds_HW[orphans_HW] = parts_HW[orphans_HW] + seeds_HW.max()
    objects_HW = watershed(barrier_HW, markers=seeds_HW, mask=own_HW)
    sizes = np.bincount(objects_HW.ravel())
    objects_HW[(sizes < min_pixels)[objects_HW]] = 0
    _, compact = np.unique(objects_HW, return_inverse=True)
    return compact.reshape(objects_HW.shape) if (objects_HW == 0).any() else compact.reshape(objects_HW.shape) + 1
