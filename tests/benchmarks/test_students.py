"""The benchmark of training at a tiny size, on the example that ships."""

import pytest

from benchmarks import students


def test_one_row_with_both_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(students, "HEAD_STEPS", 1)
    (figure,) = students.figures(students.PACK, students.GENERATOR, num_images=4, steps=1, pairs=1)
    assert 0.1 < figure.value < 10
    assert "steps/s" in figure.detail
