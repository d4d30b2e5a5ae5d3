"""Scores against cases that can be counted by hand."""

import numpy as np
import pytest
import torch

from models.metrics.average_precision import AveragePrecision
from models.metrics.boundary import BoundaryIoU, inner_band
from models.metrics.boxes import Boxes
from models.metrics.calibration import CalibrationError
from models.metrics.evaluation import Prediction, evaluate
from models.metrics.segmentation import ConfusionMatrix
from tests.models.tiny import THINGS, disc_examples


def test_iou_by_hand() -> None:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 1, 1, 255]]]))
    assert matrix.iou()[:2].tolist() == [0.5, 0.5]
    assert matrix.iou()[2].isnan()
    assert matrix.miou() == 0.5
    assert matrix.accuracy() == pytest.approx(2 / 3)


def test_a_batch_counts_like_its_images() -> None:
    predicted, label = torch.randint(0, 3, (4, 8, 8)), torch.randint(0, 3, (4, 8, 8))
    whole, parts = ConfusionMatrix(3), ConfusionMatrix(3)
    whole.update(predicted, label)
    for one, other in zip(predicted, label, strict=True):
        parts.update(one[None], other[None])
    assert torch.equal(whole.counts_NN, parts.counts_NN)


def test_the_band_is_the_border() -> None:
    mask = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
    mask[..., 1:6, 1:6] = True
    assert inner_band(mask, 1).sum() == 16


def test_boundary_iou_is_one_for_the_truth_and_falls_with_a_shift() -> None:
    label = torch.zeros(1, 64, 64, dtype=torch.long)
    label[:, 20:40, 20:40] = 1
    exact, shifted = BoundaryIoU(2), BoundaryIoU(2)
    exact.update(label, label)
    shifted.update(label.roll(2, 1), label)
    assert exact.miou() == 1.0
    assert shifted.iou()[1] < 0.7


def test_calibration_error_by_hand() -> None:
    error = CalibrationError()
    probabilities = torch.tensor([0.9, 0.1])[None, :, None, None].expand(1, 2, 2, 2)
    error.update(probabilities, torch.tensor([[[0, 0], [1, 255]]]))
    assert error.error() == pytest.approx(0.9 - 2 / 3, abs=1e-6)


def test_average_precision_is_one_for_the_truth_and_half_for_half() -> None:
    truth = np.zeros((32, 32), np.uint16)
    truth[2:12, 2:12], truth[18:30, 18:30] = 1, 2
    found = np.where(truth == 1, truth, 0)
    whole, half = AveragePrecision(), AveragePrecision()
    whole.update(truth, {1: (1, 0.9), 2: (1, 0.8)}, truth, {1: 1, 2: 1})
    half.update(found, {1: (1, 0.9)}, truth, {1: 1, 2: 1})
    assert whole.scores() == (1.0, 1.0)
    assert half.scores()[1] == pytest.approx(0.5, abs=0.02)
    assert AveragePrecision().scores() != AveragePrecision().scores()


def test_boxes_are_held_against_those_around_the_true_objects() -> None:
    truth = np.zeros((32, 32), np.uint16)
    truth[2:12, 2:12], truth[18:30, 18:30] = 1, 2
    whole, half, loose = AveragePrecision(), AveragePrecision(), AveragePrecision()
    corners = np.array([[2, 2, 12, 12], [18, 18, 30, 30]], np.float32)
    classes, scores = np.array([1, 1]), np.array([0.9, 0.8], np.float32)
    whole.update_boxes(Boxes(corners, classes, scores), truth, {1: 1, 2: 1})
    half.update_boxes(Boxes(corners[:1], classes[:1], scores[:1]), truth, {1: 1, 2: 1})
    # Of 10x10 pixels 10x8 are found: an IoU of .8 counts at .50 and not at .85.
    loose.update_boxes(Boxes(corners - [[0, 0, 0, 2], [0, 0, 0, 0]], classes, scores), truth, {1: 1, 2: 1})
    assert whole.scores("bbox") == pytest.approx((1.0, 1.0))
    assert half.scores("bbox")[1] == pytest.approx(0.5, abs=0.02)
    assert loose.scores("bbox")[1] == pytest.approx(1.0)
    assert 0.5 < loose.scores("bbox")[0] < 1.0


def test_masks_are_measured_as_boxes_too() -> None:
    truth, found = np.zeros((32, 32), np.uint16), np.zeros((32, 32), np.uint16)
    truth[4:20, 4:20] = 1
    found[4:20, 4] = found[4, 4:20] = found[19, 4:20] = found[4:20, 19] = 1
    precision = AveragePrecision()
    precision.update(found, {1: (1, 0.9)}, truth, {1: 1})
    assert precision.scores() == (0.0, 0.0)
    assert precision.scores("bbox") == pytest.approx((1.0, 1.0))


class Oracle:
    """Answers with the truth, contours included."""

    def __init__(self) -> None:
        self.examples = disc_examples(3)

    def predict(self, images_BHWC: np.ndarray) -> Prediction:
        labels = np.stack([example.label_HW for example in self.examples])
        probabilities = np.moveaxis(np.eye(3, dtype=np.float32)[labels], -1, 1)
        return Prediction(
            probabilities, np.stack([e.instances_HW for e in self.examples if e.instances_HW is not None])
        )


def test_the_truth_scores_one_everywhere() -> None:
    oracle = Oracle()
    result = evaluate(oracle, oracle.examples, THINGS)
    assert (result.miou, result.boundary_iou, result.accuracy, result.ap50) == (1.0, 1.0, 1.0, 1.0)
    assert result.box_ap == pytest.approx(1.0)
    assert result.expected_calibration_error == 0
    assert sum(map(sum, result.confusion_matrix)) == 3 * 32 * 32
    assert [(image.index, image.miou) for image in result.images] == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert "images" not in result.to_dict()
