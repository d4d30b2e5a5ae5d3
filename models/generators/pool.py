"""A pool of unlabelled images, cut into what a generator learns from and what it is measured against.

Axes: B batch, C channel, H height, W width. Images are uint8 BCHW.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SMALLEST_POOL = 16
SMALLEST_HOLDOUT = 8


@dataclass(frozen=True)
class Pool:
    """Images to learn from and images to measure against, uint8 BCHW; both in random order."""

    train_BCHW: Tensor
    holdout_BCHW: Tensor
    """May be empty."""


def split(images_BCHW: Tensor, *, holdout_share: float, seed: int) -> Pool:
    """Training and held-out images by the seed; held out are none (share 0) or at least SMALLEST_HOLDOUT."""
    order = torch.randperm(len(images_BCHW), generator=torch.Generator().manual_seed(seed))
    count = max(SMALLEST_HOLDOUT, round(len(images_BCHW) * holdout_share)) if holdout_share > 0 else 0
    return Pool(images_BCHW[order[count:]], images_BCHW[order[:count]])
