"""The curves against dropping images and pixels outright and measuring what is left."""

import numpy as np
import pytest
import torch

from models.contracts import IGNORE
from models.metrics.evaluation import Prediction, evaluate
from models.metrics.risk_coverage import SHARES, RiskCoverage
from models.metrics.segmentation import ConfusionMatrix
from models.selection import image_score, keep_most_certain, pixel_threshold
from tests.models.tiny import STUFF, disc_examples


def scene(count: int = 21, size: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions that are wrong where the divergence is large, more so in some images."""
    draw = np.random.default_rng(3)
    label_BHW = draw.integers(0, 3, (count, size, size))
    divergence_BHW = draw.random((count, size, size)) * draw.random((count, 1, 1))
    wrong_BHW = draw.random((count, size, size)) < divergence_BHW
    predicted_BHW = np.where(wrong_BHW, (label_BHW + 1) % 3, label_BHW)
    label_BHW[draw.random(label_BHW.shape) < 0.1] = IGNORE
    return predicted_BHW, label_BHW, divergence_BHW


def miou(predicted_BHW: np.ndarray, label_BHW: np.ndarray) -> float:
    matrix = ConfusionMatrix(3)
    matrix.update(torch.from_numpy(predicted_BHW), torch.from_numpy(label_BHW))
    return matrix.miou()


def test_images_are_dropped_as_the_filter_drops_them() -> None:
    predicted_BHW, label_BHW, divergence_BHW = scene()
    risk = RiskCoverage(3)
    for part in (slice(0, 8), slice(8, 21)):
        risk.update(predicted_BHW[part], label_BHW[part], divergence_BHW[part])
    curve = risk.curve()
    assert curve is not None
    assert (curve.num_images, curve.shares) == (21, SHARES)
    kept = [keep_most_certain(image_score(divergence_BHW), drop_share=share) for share in SHARES]
    assert curve.images == pytest.approx([miou(predicted_BHW[keep_B], label_BHW[keep_B]) for keep_B in kept])
    assert curve.images[-1] is not None
    assert curve.images[0] is not None
    assert curve.images[-1] > curve.images[0] + 0.05


def test_pixels_are_ignored_as_the_filter_ignores_them() -> None:
    predicted_BHW, label_BHW, divergence_BHW = scene()
    risk = RiskCoverage(3)
    risk.update(predicted_BHW, label_BHW, divergence_BHW)
    curve = risk.curve()
    assert curve is not None
    for share, found in zip(SHARES, curve.pixels, strict=True):
        limits = [pixel_threshold(divergence_HW, ignore_share=share) for divergence_HW in divergence_BHW]
        left_BHW = np.where(divergence_BHW > np.array(limits)[:, None, None], IGNORE, label_BHW)
        assert found == pytest.approx(miou(predicted_BHW, left_BHW))


def test_a_curve_has_no_value_where_a_class_is_gone() -> None:
    label_BHW = np.zeros((2, 4, 4), dtype=np.int64)
    label_BHW[1, 0] = 1
    divergence_BHW = np.stack([np.zeros((4, 4)), (label_BHW[1] == 1).astype(float)])
    risk = RiskCoverage(2)
    risk.update(label_BHW, label_BHW, divergence_BHW)
    curve = risk.curve()
    assert curve is not None
    assert curve.images == (*[1.0] * 10, None)
    assert curve.pixels[0] == 1.0
    assert curve.pixels[-1] is None


def test_images_without_a_label_do_not_count_and_nothing_is_no_curve() -> None:
    risk = RiskCoverage(2)
    assert risk.curve() is None
    blank_BHW = np.full((1, 4, 4), IGNORE)
    risk.update(np.zeros((1, 4, 4), np.int64), blank_BHW, np.zeros((1, 4, 4)))
    assert risk.curve() is None


def test_two_counts_together_are_one() -> None:
    predicted_BHW, label_BHW, divergence_BHW = scene()
    whole, first, second = RiskCoverage(3), RiskCoverage(3), RiskCoverage(3)
    whole.update(predicted_BHW, label_BHW, divergence_BHW)
    first.update(predicted_BHW[:5], label_BHW[:5], divergence_BHW[:5])
    second.update(predicted_BHW[5:], label_BHW[5:], divergence_BHW[5:])
    first.merge(second)
    assert first.curve() == whole.curve()


class Bright:
    """Says disc where it is bright; unsure, if asked, where it is neither bright nor dark."""

    def __init__(self, *, unsure: bool) -> None:
        self.unsure = unsure

    def predict(self, images_BHWC: np.ndarray) -> Prediction:
        light_BHW = images_BHWC.mean(axis=-1) / 255
        divergence_BHW = 0.5 - np.abs(light_BHW - 0.5) if self.unsure else None
        return Prediction(np.stack([1 - light_BHW, light_BHW], axis=1).astype(np.float32), None, divergence_BHW)


def test_an_evaluation_has_a_curve_where_the_predictor_knows_what_it_does_not_know() -> None:
    examples = disc_examples(5)
    result = evaluate(Bright(unsure=True), examples, STUFF, batch_size=2)
    assert result.risk is not None
    curve = result.risk.curve()
    assert curve is not None
    assert curve.images[0] == curve.pixels[0] == pytest.approx(result.miou)
    assert "risk" not in result.to_dict()
    assert evaluate(Bright(unsure=False), examples, STUFF).risk is None
