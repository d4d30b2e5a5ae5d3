"""What a soak says of what it read."""

import pytest

from benchmarks.load import soak
from benchmarks.load.soak import Reading


def test_growth_is_the_last_third_against_the_second() -> None:
    readings = [Reading(100.0 + 10 * place, 20, 4) for place in range(9)]
    memory, descriptors, threads = soak._growth("API", readings)
    assert memory.value == pytest.approx(170 / 140)
    assert memory.met is False
    assert descriptors.met
    assert threads.met


@pytest.mark.slow
def test_a_short_soak_answers_all_rightly() -> None:
    *grown, left, wrong = soak.figures(minutes=0.2, every_seconds=2.0)
    assert len(grown) == 6
    assert left.value == 0
    assert wrong.value == 0, wrong.detail
