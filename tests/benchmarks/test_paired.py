"""Pairs are timed in turn, and a figure knows whether it is where it ought to be."""

import time

import pytest

from benchmarks.paired import Figure, from_pairs, in_turn


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_the_ratio_is_that_of_the_work_and_every_second_pair_begins_with_b() -> None:
    order = []

    def a() -> None:
        order.append("a")
        burn(0.04)

    def b() -> None:
        order.append("b")
        burn(0.02)

    pairs = in_turn(a, b, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert pairs.processor_ratio == pytest.approx(2, rel=0.2)
    assert all(wall >= cpu * 0.9 for wall, cpu in zip(pairs.wall[0], pairs.processor[0], strict=True))
    assert pairs.fastest[0] > pairs.fastest[1]
    assert from_pairs("a / b", pairs, at_most=1.05).met is False


@pytest.mark.parametrize(
    ("figure", "met", "wanted"),
    [
        (Figure("cost", 1.04, at_most=1.05), True, "<= 1.05"),
        (Figure("rate", 14_000, "masks/s", at_least=15_000), False, ">= 15,000"),
        (Figure("size", 44.3, "GB"), None, "|  |"),
    ],
)
def test_a_row_says_what_was_wanted(figure: Figure, met: bool | None, wanted: str) -> None:
    assert figure.met is met
    assert wanted in figure.row()
    assert figure.row().count("|") == 6
