"""The report's sentence."""

from __future__ import annotations

import pytest

from workers.verdict import reached, verdict


@pytest.mark.parametrize(
    ("student", "baseline", "words"), [(0.6, 0.5, "beats"), (0.5, 0.6, "loses"), (0.5, 0.5, "no better")]
)
def test_the_student_is_told_plainly(student: float, baseline: float, words: str) -> None:
    rows = [{"name": "student", "miou": student}, {"name": "baseline", "miou": baseline}]
    assert words in verdict(rows, {})


def test_a_detector_is_judged_by_its_boxes() -> None:
    rows = [
        {"name": "student", "miou": None, "box_ap": 0.31, "num_images": 2},
        {"name": "head", "miou": 0.9, "box_ap": 0.5},
        {"name": "baseline", "miou": None, "box_ap": 0.12},
    ]
    assert "beats" in verdict(rows, {})
    assert "box AP 0.310 against 0.120" in verdict(rows, {})
    assert reached("The student", rows[0]) == "The student reaches box AP 0.310 on 2 held-out images."


def test_without_held_out_images_only_the_head_is_known() -> None:
    assert "0.420" in verdict([], {"cross_validation": [{"miou": 0.3}, {"miou": 0.42}]})
    assert "Nothing was held out" in verdict([], {})
    assert "Nothing was held out" in verdict([], {"cross_validation": [], "estimate": None})


def test_an_estimate_says_what_it_was_made_from() -> None:
    estimate = {"miou": 0.4567, "folds": [0.4, 0.5], "num_folds": 2, "steps_share": 0.18}
    words = verdict([], {"cross_validation": [], "estimate": estimate})
    assert "0.46" in words
    assert "half of the labels with 18% of the steps" in words


def test_what_is_measured_alone_is_told_without_a_winner() -> None:
    row = {"name": "student", "miou": 0.4321, "num_images": 150}
    words = "The student trained on 5 labels alone"
    assert reached(words, row) == f"{words} reaches mIoU 0.432 on 150 held-out images."
    assert "1 held-out image," in reached(words, {**row, "miou": None, "num_images": 1})
