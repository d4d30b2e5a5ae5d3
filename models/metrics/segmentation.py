"""Confusion matrix and intersection over union, streamed: no prediction is kept.

Axes: B batch, H, W; N classes. Label maps hold class indices, 255 = ignore.
"""

import torch

from models.contracts import IGNORE


class ConfusionMatrix:
    """Pixel counts by true class (row) and predicted class (column)."""

    def __init__(self, num_classes: int) -> None:
        self.counts_NN = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, predicted_BHW: torch.Tensor, label_BHW: torch.Tensor) -> None:
        """Count a batch; pixels labelled 255 are left out."""
        size = len(self.counts_NN)
        valid = label_BHW != IGNORE
        codes = label_BHW[valid].long() * size + predicted_BHW[valid].long()
        self.counts_NN += torch.bincount(codes.flatten().cpu(), minlength=size * size).reshape(size, size)

    def iou(self) -> torch.Tensor:
        """Per-class IoU in [0, 1], float64 (N,); nan for a class that is neither labelled nor predicted."""
        counts = self.counts_NN.double()
        both = counts.diagonal()
        return both / (counts.sum(0) + counts.sum(1) - both)

    def miou(self) -> float:
        """Mean IoU over the classes that are labelled or predicted; nan with none."""
        return float(self.iou().nanmean())

    def accuracy(self) -> float:
        """Share of pixels that are right; nan with none."""
        counts = self.counts_NN.double()
        return float(counts.diagonal().sum() / counts.sum())
