"""Uncertainty, what is dropped, and how often the rest is drawn."""

import numpy as np
import pytest

from models.selection import image_score, js_divergence, keep_most_certain, pixel_threshold, sampling_weights


def test_divergence_is_zero_in_agreement_and_log_two_in_opposition() -> None:
    same = np.full((3, 1, 2, 2, 2), 0.5)
    assert js_divergence(same).max() == pytest.approx(0, abs=1e-6)
    opposed = np.zeros((2, 1, 2, 1, 1))
    opposed[0, 0, 0], opposed[1, 0, 1] = 1, 1
    assert js_divergence(opposed).item() == pytest.approx(np.log(2))


def test_an_image_is_as_uncertain_as_its_worst_tenth() -> None:
    divergence = np.zeros((1, 10, 10))
    divergence[0, 0] = 1
    assert image_score(divergence).tolist() == [1.0]


@pytest.mark.parametrize(
    ("count", "share", "kept"), [(300, 0.1, 270), (10, 0.1, 9), (3, 0.9, 1), (1, 0.9, 1), (5, 0, 5)]
)
def test_exactly_the_most_uncertain_share_is_dropped(count: int, share: float, kept: int) -> None:
    scores = np.random.default_rng(0).permutation(count)
    keep = keep_most_certain(scores, drop_share=share)
    assert keep.sum() == kept
    assert set(scores[keep]) == set(range(kept))


def test_rare_classes_are_drawn_more_often() -> None:
    weights = sampling_weights([[90, 10, 0], [100, 0, 0], [80, 0, 20]])
    assert weights.mean() == pytest.approx(1)
    assert weights[1] < weights[0] < weights[2]
    assert np.allclose(sampling_weights([[90, 10], [100, 0]], power=0), 1)


def test_the_threshold_ignores_its_share() -> None:
    divergence = np.linspace(0, 1, 1000).reshape(1, 10, 100)
    assert (divergence > pixel_threshold(divergence, ignore_share=0.2)).mean() == pytest.approx(0.2, abs=0.01)
    assert pixel_threshold(divergence, ignore_share=0) == np.inf
