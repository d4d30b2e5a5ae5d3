"""The images that a network labels worst and best, with what it said of them, kept while all are measured.

Axes: B batch, H, W.
"""

from bisect import insort
from dataclasses import dataclass

import numpy as np
import torch

from models.metrics.segmentation import ConfusionMatrix


@dataclass(frozen=True)
class ImageScore:
    """One image."""

    index: int
    """Its place among the examples."""
    miou: float
    """In [0, 1], over the classes that are labelled or predicted in this image."""
    predicted_HW: np.ndarray
    """uint8 class indices: what was measured."""


class Extremes:
    """At most `each` worst and `each` best images; memory does not grow with the number of images."""

    def __init__(self, num_classes: int, each: int = 8) -> None:
        self.num_classes = num_classes
        self.each = each
        self._kept: list[ImageScore] = []

    def update(self, predicted_BHW: torch.Tensor, label_BHW: torch.Tensor, *, first: int) -> None:
        """Score a batch of class indices whose first image has the index `first`; images without a labelled pixel have no score."""
        for place, (predicted_HW, label_HW) in enumerate(zip(predicted_BHW, label_BHW, strict=True)):
            confusion = ConfusionMatrix(self.num_classes)
            confusion.update(predicted_HW, label_HW)
            if confusion.counts_NN.any():
                shown_HW = predicted_HW.to("cpu", torch.uint8).numpy()
                self._keep(ImageScore(first + place, confusion.miou(), shown_HW))

    def _keep(self, score: ImageScore) -> None:
        insort(self._kept, score, key=lambda kept: (kept.miou, kept.index))
        if len(self._kept) > 2 * self.each:
            del self._kept[self.each]  # as many are worse as are better: no later image brings it back

    def worst_first(self) -> list[ImageScore]:
        """What was kept, by mIoU; all images where there are at most twice `each`."""
        return list(self._kept)
