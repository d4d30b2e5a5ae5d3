"""Label maps made visible: overlays, colours, contact sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.formats.annotated_images import Image_HWC, Instances_HW, LabelClass, Labels_HW


def default_colors(n: int) -> list[str]:
    """n distinct `#rrggbb` colours, the same for the same n, the first ones safe for colour-blind eyes."""
    raise NotImplementedError


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
    """RGB uint8 (H * scale, W * scale, 3): class colours over the image, background left clear, instances outlined."""
    raise NotImplementedError


def contact_sheet(tiles: Sequence[Image_HWC], *, columns: int = 8, gap: int = 4) -> NDArray[np.uint8]:
    """Tiles of one size in a grid on white, row by row."""
    raise NotImplementedError
