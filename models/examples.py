"""A labelled example as models see it: one image with its label map and, for thing classes, its instances.

Axes: B batch, H height, W width, C channel.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Example:
    """One annotated image."""

    image_HWC: np.ndarray
    """uint8 RGB."""
    label_HW: np.ndarray
    """uint8 class index; 255 = ignore."""
    instances_HW: np.ndarray | None = None
    """uint16 instance ids, 0 = no instance; None when no class is a thing."""


def to_float_images(images_BHWC: np.ndarray | Sequence[np.ndarray]) -> torch.Tensor:
    """uint8 RGB images -> float32 BCHW in [-1, 1], the range every network here takes."""
    images = torch.from_numpy(np.ascontiguousarray(np.stack(list(images_BHWC))))
    return (images.permute(0, 3, 1, 2).float() / 127.5 - 1.0).contiguous()


def to_uint8_images(images_BCHW: torch.Tensor) -> np.ndarray:
    """Float BCHW in [-1, 1] -> uint8 BHWC; values outside are clipped."""
    images = ((images_BCHW.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    images_BHWC: np.ndarray = images.permute(0, 2, 3, 1).cpu().contiguous().numpy()
    return images_BHWC
