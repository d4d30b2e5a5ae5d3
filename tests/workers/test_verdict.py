"""The report's sentence."""

from __future__ import annotations

import pytest

from workers.verdict import verdict


@pytest.mark.parametrize(
    ("student", "baseline", "words"), [(0.6, 0.5, "beats"), (0.5, 0.6, "loses"), (0.5, 0.5, "no better")]
)
def test_the_student_is_told_plainly(student: float, baseline: float, words: str) -> None:
    rows = [{"name": "student", "miou": student}, {"name": "baseline", "miou": baseline}]
    assert words in verdict(rows, {})


def test_without_held_out_images_only_the_head_is_known() -> None:
    assert "0.420" in verdict([], {"cross_validation": [{"miou": 0.3}, {"miou": 0.42}]})
    assert "Nothing was held out" in verdict([], {})
