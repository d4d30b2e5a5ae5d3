"""Average precision of instance masks and of boxes, by pycocotools. Axes: H, W."""

import contextlib
import io
from typing import Any, Literal

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from models.metrics.boxes import Boxes

What = Literal["segm", "bbox"]
"""What is held against what, as COCO names it."""


class AveragePrecision:
    """Collects masks or boxes image by image; AP (IoU .50:.95) and AP50 at the end, in [0, 1].

    Masks are measured as masks and, by their bounding boxes, as boxes.
    """

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._truth: list[dict[str, Any]] = []
        self._found: list[dict[str, Any]] = []

    def update(
        self,
        instances_HW: np.ndarray,
        scores: dict[int, tuple[int, float]],
        true_instances_HW: np.ndarray,
        true_classes: dict[int, int],
    ) -> None:
        """Add one image: found instance ids with (class, score), true instance ids with their class."""
        image = self._add_truth(true_instances_HW, true_classes)
        for instance, (index, score) in scores.items():
            encoded = _encode(instances_HW == instance)
            self._found.append({"image_id": image, "category_id": index + 1, "segmentation": encoded, "score": score})

    def update_boxes(self, boxes: Boxes, true_instances_HW: np.ndarray, true_classes: dict[int, int]) -> None:
        """Add one image: found boxes, true instance ids with their class."""
        self._found += boxes.to_coco(self._add_truth(true_instances_HW, true_classes))

    def _add_truth(self, true_instances_HW: np.ndarray, true_classes: dict[int, int]) -> int:
        """Remember an image and its objects; returns its id."""
        image = len(self._images) + 1
        height, width = true_instances_HW.shape
        self._images.append({"id": image, "height": height, "width": width})
        for instance, index in true_classes.items():
            encoded = _encode(true_instances_HW == instance)
            box = [float(side) for side in rle.toBbox(encoded)]
            self._truth.append(
                {
                    "id": len(self._truth) + 1,
                    "image_id": image,
                    "category_id": index + 1,
                    "segmentation": encoded,
                    "area": float(rle.area(encoded)),
                    "bbox": box,
                    "iscrowd": 0,
                }
            )
        return image

    def scores(self, what: What = "segm") -> tuple[float, float]:
        """(AP, AP50); nan when nothing is annotated, 0 when nothing was found."""
        if not self._truth:
            return float("nan"), float("nan")
        if not self._found:
            return 0.0, 0.0
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            categories = sorted({entry["category_id"] for entry in self._truth})
            truth.dataset = {
                "info": {},
                "images": self._images,
                "annotations": self._truth,
                "categories": [{"id": category, "name": str(category)} for category in categories],
            }
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes([dict(entry) for entry in self._found]), what)
            # Microscopy tiles hold more objects than COCO's limit of 100 a picture.
            evaluation.params.maxDets = [1, 10, 1000]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][:, :, :, 0, -1]
        return _mean(precision), _mean(precision[0])


def _encode(mask_HW: np.ndarray) -> dict[str, Any]:
    encoded: dict[str, Any] = rle.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    return encoded


def _mean(precision: np.ndarray) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else float("nan")
