"""Words and numbers on pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from api.dashboard import formatting
from api.dashboard.card_rows import card_rows
from api.dashboard.class_balance import class_shares
from api.dashboard.report_view import class_lines, confusions, score_lines, verdict


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (59.4, "59 s"),
        (61, "1 min 01 s"),
        (7325, "2 h 02 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert formatting.duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (48_200_000, "48.2 MB"), (812e6, "812 MB")]
)
def test_sizes(value: float, words: str) -> None:
    assert formatting.size(value) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.6084, "0.608"), (0.0, "0.000"), (3e-4, "3.0e-04"), (12_345, "12\u202f345"), (True, "True"), (None, "–")],
)
def test_numbers(value: object, words: str) -> None:
    assert formatting.number(value) == words


def test_times_are_distances_with_the_exact_moment() -> None:
    moment = datetime(2026, 11, 23, 17, 40, tzinfo=UTC)
    text = formatting.ago(moment, now=lambda: moment + timedelta(minutes=7))
    assert 'datetime="2026-11-23T17:40:00Z"' in text
    assert "7 min ago" in text


@pytest.mark.parametrize("color", ['"><u>', "url(x)", "#12345", 7, None])
def test_a_color_that_is_none_is_grey(color: object) -> None:
    assert formatting.color(color) == "#808080"
    assert "<u>" not in formatting.swatch(color)


def test_a_card_becomes_rows() -> None:
    card = {"a_b": {"c": 0.25, "d": [1, 2]}, "hidden": 1, "blob": list(range(99)), "on": True, "none": None}
    rows = [("A b: c", "0.250"), ("A b: d", "1, 2"), ("On", "yes")]
    assert card_rows(card, skip=["hidden"]) == rows


def test_class_shares_need_counts_of_all_classes() -> None:
    classes = [{"name": "a", "color": "#000000"}, {"name": "b", "color": "#ffffff"}]
    assert [row.share for row in class_shares(classes, [1, 3])] == [0.25, 0.75]
    assert class_shares(classes, [1]) == class_shares(classes, [0, 0]) == class_shares(classes, None) == []


def rows(student: float, baseline: float) -> list[dict[str, object]]:
    return [
        {
            "name": "baseline",
            "miou": baseline,
            "per_class_iou": {"a": 0.5, "b": None},
            "confusion_matrix": [[3, 1], [0, 0]],
        },
        {"name": "student", "miou": student, "per_class_iou": {"a": 0.6, "b": 0.1}, "expected_calibration_error": 0.2},
    ]


def test_a_student_that_loses_is_said_to_lose() -> None:
    good, bad, none = verdict({"rows": rows(0.6, 0.5)}), verdict({"rows": rows(0.5, 0.5)}), verdict({"rows": []})
    assert good
    assert bad
    assert (good.tone, bad.tone, none) == ("win", "lose", None)
    assert "does not beat" in bad.words


def test_the_best_of_a_row_is_marked_only_where_there_is_a_choice() -> None:
    lines = {line.name: line for line in score_lines(rows(0.6, 0.5))}
    assert lines["mIoU"].best == 1
    assert lines["Calibration error (lower is better)"].best is None
    assert [line.best for line in class_lines(rows(0.6, 0.5))] == [1, None]


def test_confusions_are_shares_of_the_true_class() -> None:
    (matrix,) = confusions(rows(0.6, 0.5))
    assert matrix.rows == [("a", [0.75, 0.25]), ("b", [None, None])]
