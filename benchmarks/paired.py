"""Two ways of doing the same, timed in turn within one process, and the table all benchmarks of cost print.

Machines are shared and their speed drifts: what counts is the ratio of two runs that lie side by side, and of many such
pairs the median. Wall and processor time are both kept; where other work runs on the machine the second is steadier.
"""

import resource
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Pairs:
    """Seconds of A and B, run in turn."""

    wall: list[tuple[float, float]]
    """Of every pair (A, B)."""
    processor: list[tuple[float, float]]
    """Of all threads of the process, and of the children that ended meanwhile."""

    @property
    def wall_ratio(self) -> float:
        """Median of A / B."""
        return statistics.median(a / b for a, b in self.wall)

    @property
    def processor_ratio(self) -> float:
        """Median of A / B."""
        return statistics.median(a / b for a, b in self.processor)

    @property
    def fastest(self) -> tuple[float, float]:
        """Least wall seconds of A and of B."""
        return min(a for a, _ in self.wall), min(b for _, b in self.wall)


def in_turn(a: Callable[[], object], b: Callable[[], object], pairs: int) -> Pairs:
    """So many times both, every second pair B first; the caller has warmed up what they use."""
    wall, processor = [], []
    for index in range(pairs):
        first, second = (b, a) if index % 2 else (a, b)
        seconds = [_seconds(first), _seconds(second)]
        (wall_a, cpu_a), (wall_b, cpu_b) = reversed(seconds) if index % 2 else seconds
        wall.append((wall_a, wall_b))
        processor.append((cpu_a, cpu_b))
    return Pairs(wall, processor)


def _seconds(run: Callable[[], object]) -> tuple[float, float]:
    """(wall, processor) seconds of one run."""
    wall, processor = time.perf_counter(), _processor_seconds()
    run()
    return time.perf_counter() - wall, _processor_seconds() - processor


def _processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


@dataclass(frozen=True)
class Figure:
    """One row of the table: what was measured, and what it ought to be."""

    question: str
    value: float
    unit: str = "x"
    at_most: float | None = None
    at_least: float | None = None
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the value is where it ought to be; None where nothing is asked of it."""
        if self.at_most is None and self.at_least is None:
            return None
        return (self.at_most is None or self.value <= self.at_most) and (
            self.at_least is None or self.value >= self.at_least
        )

    def row(self) -> str:
        """A row of a Markdown table."""
        wanted = f"<= {_short(self.at_most)}" if self.at_most is not None else ""
        wanted = f">= {_short(self.at_least)}" if self.at_least is not None else wanted
        verdict = {True: "yes", False: "no", None: ""}[self.met]
        return f"| {self.question} | {_short(self.value)} {self.unit} | {wanted} | {verdict} | {self.detail} |"


def from_pairs(question: str, pairs: Pairs, *, at_most: float | None = None, at_least: float | None = None) -> Figure:
    """The ratio A / B in processor time, with the wall's beside it."""
    a, b = pairs.fastest
    detail = f"wall {pairs.wall_ratio:.3f}; fastest {a:.3f} s and {b:.3f} s; {len(pairs.wall)} pairs"
    return Figure(question, pairs.processor_ratio, at_most=at_most, at_least=at_least, detail=detail)


def print_table(figures: Iterable[Figure]) -> None:
    """All rows as a Markdown table, each as soon as it is known."""
    print("| measured | value | wanted | met | detail |\n|---|---|---|---|---|", flush=True)
    for figure in figures:
        print(figure.row(), flush=True)


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
