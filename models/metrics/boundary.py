"""Boundary IoU (Cheng et al., CVPR 2021): the IoU of the bands along both outlines, streamed.

The band is `share` of the image diagonal wide, at least one pixel. Axes: B batch, H, W, N classes.
"""

import math

import torch
from torch.nn import functional

from models.contracts import IGNORE


class BoundaryIoU:
    """Per-class IoU of the inner bands along the predicted and the true outline."""

    def __init__(self, num_classes: int, *, share: float = 0.02) -> None:
        self.num_classes, self.share = num_classes, share
        self.intersection_N = torch.zeros(num_classes, dtype=torch.float64)
        self.union_N = torch.zeros(num_classes, dtype=torch.float64)

    def update(self, predicted_BHW: torch.Tensor, label_BHW: torch.Tensor) -> None:
        """Count a batch; pixels labelled 255 are left out."""
        valid_B1HW = (label_BHW != IGNORE)[:, None]
        width = max(1, round(self.share * math.hypot(*label_BHW.shape[-2:])))
        predicted = inner_band(self._one_hot(predicted_BHW), width) & valid_B1HW
        labelled = inner_band(self._one_hot(label_BHW), width) & valid_B1HW
        self.intersection_N += (predicted & labelled).sum((0, 2, 3)).double().cpu()
        self.union_N += (predicted | labelled).sum((0, 2, 3)).double().cpu()

    def iou(self) -> torch.Tensor:
        """Per-class boundary IoU in [0, 1], float64 (N,); nan for a class that never occurs."""
        return self.intersection_N / self.union_N

    def miou(self) -> float:
        """Mean over the classes that occur."""
        return float(self.iou().nanmean())

    def _one_hot(self, label_BHW: torch.Tensor) -> torch.Tensor:
        return torch.stack([label_BHW == index for index in range(self.num_classes)], dim=1)


def inner_band(mask_BNHW: torch.Tensor, width: int) -> torch.Tensor:
    """Pixels of each mask within `width` pixels of something else (bool BNHW); the image frame counts as outside."""
    outside = functional.pad((~mask_BNHW).float(), (width,) * 4, value=1.0)
    near = functional.max_pool2d(outside, 2 * width + 1, stride=1)
    return mask_BNHW & (near > 0)
