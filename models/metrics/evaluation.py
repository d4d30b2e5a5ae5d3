"""Every measurement of one predictor on labelled examples: a student, a head on its generator, a detector.

Axes: B batch, H, W, C channel, N classes.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from models.contracts import IGNORE, ClassSpec, Progress, Stop, Stopped
from models.examples import Example
from models.instances import fold_labels, fold_probabilities, instance_scores
from models.metrics.average_precision import AveragePrecision
from models.metrics.boundary import BoundaryIoU
from models.metrics.boxes import BoxPredictor
from models.metrics.calibration import CalibrationError
from models.metrics.extremes import Extremes, ImageScore
from models.metrics.risk_coverage import RiskCoverage
from models.metrics.segmentation import ConfusionMatrix


@dataclass(frozen=True)
class Prediction:
    """What a network says about a batch of images."""

    probabilities_BCHW: np.ndarray
    """float32, summing to one over the channels: N classes, then one contour per thing class."""
    instances_BHW: np.ndarray | None
    """uint16 instance ids, 0 = none; None when no class is a thing."""
    divergence_BHW: np.ndarray | None = None
    """Jensen-Shannon divergence of the members per pixel, nats; None where there are no members to disagree."""

    def labels_BHW(self, classes: Sequence[ClassSpec]) -> np.ndarray:  # noqa: N802
        """uint8 class indices: the most probable channel, a contour counted to its class."""
        return fold_labels(self.probabilities_BCHW.argmax(axis=1).astype(np.uint8), classes)


class Predictor(Protocol):
    """Anything that labels images."""

    def predict(self, images_BHWC: np.ndarray) -> Prediction:
        """uint8 RGB images -> channel probabilities and instances at the images' size."""
        ...


@dataclass(frozen=True)
class EvaluationResult:
    """Scores in [0, 1]; None where a score has no meaning (no thing class, class never seen, a detector's label map)."""

    num_images: int
    miou: float | None
    per_class_iou: dict[str, float | None]
    boundary_iou: float | None
    per_class_boundary_iou: dict[str, float | None]
    accuracy: float | None
    expected_calibration_error: float | None
    ap: float | None
    ap50: float | None
    box_ap: float | None
    """COCO's average precision of boxes (IoU .50:.95): a detector's own, or those around the found instances."""
    box_ap50: float | None
    confusion_matrix: list[list[int]]
    """Pixel counts, rows true class, columns predicted class, in class order; empty for a detector."""
    images: Sequence[ImageScore] = ()
    """The worst and the best images, worst first."""
    risk: RiskCoverage | None = None
    """What dropping the uncertain would be worth; None where the predictor does not say how uncertain it is."""

    def to_dict(self) -> dict[str, Any]:
        """The scores over all images, JSON-ready."""
        scores = asdict(replace(self, images=(), risk=None))
        del scores["images"], scores["risk"]
        return scores


def evaluate(
    predictor: Predictor | BoxPredictor,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    *,
    batch_size: int = 16,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> EvaluationResult:
    """Predict every example and compare it with its labels."""
    if isinstance(predictor, BoxPredictor):
        return _evaluate_boxes(predictor, examples, classes, batch_size, progress, stop)
    confusion, boundary, calibration = ConfusionMatrix(len(classes)), BoundaryIoU(len(classes)), CalibrationError()
    extremes = Extremes(len(classes))
    risk: RiskCoverage | None = None
    precision = AveragePrecision() if any(spec.thing for spec in classes) else None
    for start in range(0, len(examples), batch_size):
        if stop is not None and stop():
            raise Stopped
        batch = examples[start : start + batch_size]
        prediction = predictor.predict(np.stack([example.image_HWC for example in batch]))
        labels_BHW = torch.from_numpy(np.stack([example.label_HW for example in batch])).long()
        predicted_BHW = torch.from_numpy(prediction.labels_BHW(classes)).long()
        confusion.update(predicted_BHW, labels_BHW)
        boundary.update(predicted_BHW, labels_BHW)
        extremes.update(predicted_BHW, labels_BHW, first=start)
        calibration.update(torch.from_numpy(fold_probabilities(prediction.probabilities_BCHW, classes)), labels_BHW)
        if prediction.divergence_BHW is not None:
            risk = risk or RiskCoverage(len(classes))
            risk.update(predicted_BHW.numpy(), labels_BHW.numpy(), prediction.divergence_BHW)
        if precision is not None:
            _count_instances(precision, prediction, batch, classes)
        if progress is not None:
            progress(start + len(batch), len(examples), {"miou": confusion.miou()})
    ap, ap50 = precision.scores() if precision is not None else (math.nan, math.nan)
    box_ap, box_ap50 = precision.scores("bbox") if precision is not None else (math.nan, math.nan)
    names = [spec.name for spec in classes]
    return EvaluationResult(
        num_images=len(examples),
        miou=_known(confusion.miou()),
        per_class_iou=dict(zip(names, map(_known, confusion.iou().tolist()), strict=True)),
        boundary_iou=_known(boundary.miou()),
        per_class_boundary_iou=dict(zip(names, map(_known, boundary.iou().tolist()), strict=True)),
        accuracy=_known(confusion.accuracy()),
        expected_calibration_error=_known(calibration.error()),
        ap=_known(ap),
        ap50=_known(ap50),
        box_ap=_known(box_ap),
        box_ap50=_known(box_ap50),
        confusion_matrix=confusion.counts_NN.tolist(),
        images=extremes.worst_first(),
        risk=risk,
    )


def _count_instances(
    precision: AveragePrecision, prediction: Prediction, batch: Sequence[Example], classes: Sequence[ClassSpec]
) -> None:
    for index, example in enumerate(batch):
        if example.instances_HW is None or prediction.instances_BHW is None:
            continue
        found_HW = prediction.instances_BHW[index]
        scores = instance_scores(prediction.probabilities_BCHW[index], found_HW, classes)
        precision.update(found_HW, scores, example.instances_HW, _true_things(example, classes))


def _true_things(example: Example, classes: Sequence[ClassSpec]) -> dict[int, int]:
    """Instance id -> class index of every labelled object of a thing class."""
    truth_HW = example.instances_HW
    if truth_HW is None:
        return {}
    found = {
        int(instance): int(example.label_HW[truth_HW == instance][0])
        for instance in np.unique(truth_HW[(truth_HW > 0) & (example.label_HW != IGNORE)])
    }
    return {key: value for key, value in found.items() if classes[value].thing}


def _evaluate_boxes(
    detector: BoxPredictor,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    batch_size: int,
    progress: Progress | None,
    stop: Stop | None,
) -> EvaluationResult:
    """What boxes alone can be measured by."""
    precision = AveragePrecision()
    for start in range(0, len(examples), batch_size):
        if stop is not None and stop():
            raise Stopped
        batch = examples[start : start + batch_size]
        for example, boxes in zip(batch, detector.detect(np.stack([e.image_HWC for e in batch])), strict=True):
            if example.instances_HW is not None:
                precision.update_boxes(boxes, example.instances_HW, _true_things(example, classes))
        if progress is not None:
            progress(start + len(batch), len(examples), {})
    box_ap, box_ap50 = precision.scores("bbox")
    unsaid: dict[str, float | None] = {spec.name: None for spec in classes}
    return EvaluationResult(
        num_images=len(examples),
        miou=None,
        per_class_iou=unsaid,
        boundary_iou=None,
        per_class_boundary_iou=unsaid,
        accuracy=None,
        expected_calibration_error=None,
        ap=None,
        ap50=None,
        box_ap=_known(box_ap),
        box_ap50=_known(box_ap50),
        confusion_matrix=[],
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
