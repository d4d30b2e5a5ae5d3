"""Boxes as a detector answers them: COCO's form, and outlines to look at. Axes: D detections, H, W."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from models.contracts import IGNORE, ClassSpec


@dataclass(frozen=True)
class Boxes:
    """What a detector finds in one image."""

    corners_D4: np.ndarray
    """float32 (left, top, right, bottom) in pixels, within the image."""
    classes_D: np.ndarray
    """Class indices, of things only."""
    scores_D: np.ndarray
    """float32 in [0, 1]."""

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO results: `{image_id, category_id, bbox: [left, top, width, height], score}`, categories counted from 1."""
        left_D, top_D, right_D, bottom_D = self.corners_D4.T.tolist()
        return [
            {
                "image_id": image_id,
                "category_id": int(index) + 1,
                "bbox": [left, top, right - left, bottom - top],
                "score": float(score),
            }
            for left, top, right, bottom, index, score in zip(
                left_D, top_D, right_D, bottom_D, self.classes_D, self.scores_D, strict=True
            )
        ]

    def painted(self, height: int, width: int, classes: Sequence[ClassSpec], *, min_score: float = 0.5) -> np.ndarray:
        """Label map uint8 HW to look at: the outlines of the surer boxes in their class, background elsewhere.

        Where no class is background, what is no outline is 255.
        """
        ground = next((index for index, spec in enumerate(classes) if spec.background), IGNORE)
        painted_HW = np.full((height, width), ground, np.uint8)
        sure_D = self.scores_D >= min_score
        for corners_4, index in zip(self.corners_D4[sure_D], self.classes_D[sure_D], strict=True):
            left, top = np.floor(corners_4[:2]).astype(int).clip(0, [width - 1, height - 1])
            right, bottom = (np.ceil(corners_4[2:]).astype(int) - 1).clip(0, [width - 1, height - 1])
            painted_HW[[top, bottom], left : right + 1] = index
            painted_HW[top : bottom + 1, [left, right]] = index
        return painted_HW


@runtime_checkable
class BoxPredictor(Protocol):
    """Anything that finds boxes."""

    def detect(self, images_BHWC: np.ndarray) -> list[Boxes]:
        """uint8 RGB images -> the boxes of each, however unsure."""
        ...
