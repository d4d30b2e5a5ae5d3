"""From the kept jobs to rows of numbers: means, spreads, the label multiplier and what everything cost. Pure."""

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli.benchmark.rows import ROWS, Cell, Row, cells_of
from cli.client import Json

BASELINES = ("few", "few_long")
SCORES = ("miou", "boundary_iou", "ap", "ap50", "expected_calibration_error")


@dataclass(frozen=True)
class Point:
    """One row at one number of labels over the seeds that are done."""

    row: str
    labels: int
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float | None, ...]]
    """Score -> one value per seed, in the order of `seeds`; None where a score has no meaning."""
    per_class_iou: Mapping[str, tuple[float | None, ...]]
    seconds: float
    """Mean over the seeds of all steps that the row needed, the generator's training left out."""
    peak_memory_bytes: int | None

    @property
    def miou(self) -> float:
        """Mean over the seeds."""
        return mean(self.values["miou"]) or 0.0

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of mIoU over the seeds; None for one seed."""
        present = [value for value in self.values["miou"] if value is not None]
        return statistics.stdev(present) if len(present) > 1 else None


def points(done: Mapping[str, Json]) -> list[Point]:
    """Every row at every number of labels where at least one seed is done."""
    grid = cells_of(done)
    found = []
    for row in ROWS.values():
        for labels in sorted({cell.labels for cell in grid}):
            measured = [cell for cell in grid if cell.labels == labels and cell.task(row.job) in done]
            if measured:
                found.append(_point(row, labels, measured, done))
    return found


def _point(row: Row, labels: int, cells: Sequence[Cell], done: Mapping[str, Json]) -> Point:
    jobs = [done[cell.task(row.job)] for cell in cells]
    measured = [next(r for r in job["rows"] if r["name"] == row.measured) for job in jobs]
    steps = [path_steps(cell.task(row.job), done) for cell in cells]
    peaks = [step["peak_memory_bytes"] for run in steps for step in run if step["peak_memory_bytes"]]
    return Point(
        row=row.key,
        labels=labels,
        seeds=tuple(cell.seed for cell in cells),
        values={score: tuple(r.get(score) for r in measured) for score in SCORES},
        per_class_iou={
            name: tuple(r["per_class_iou"][name] for r in measured) for name in measured[0]["per_class_iou"]
        },
        seconds=statistics.fmean(sum(step["seconds"] or 0.0 for step in run) for run in steps),
        peak_memory_bytes=max(peaks, default=None),
    )


def path_steps(key: str, done: Mapping[str, Json]) -> list[Json]:
    """The steps of a kept job and of the job that made its dataset, without the shards of pools it does not use."""
    job = done[key]
    pools = job["pools"]
    made = done[job["made_by"]]["steps"] if job["made_by"] in done else []
    used = [step for step in made if step["pool"] is None or pools is None or step["pool"] in pools]
    return [*used, *job["steps"]]


def baseline_curve(found: Sequence[Point]) -> list[tuple[int, float]]:
    """(labels, mIoU) of the few labels alone, at the better of their budgets, never falling with more labels."""
    best: dict[int, float] = {}
    for point in found:
        if point.row in BASELINES:
            best[point.labels] = max(point.miou, best.get(point.labels, 0.0))
    curve: list[tuple[int, float]] = []
    for labels in sorted(best):
        curve.append((labels, max(best[labels], curve[-1][1] if curve else 0.0)))
    return curve


@dataclass(frozen=True)
class Multiplier:
    """How many hand-made labels one label is worth: M / N, where the few-label curve needs M for the same mIoU."""

    value: float
    bound: str = ""
    """`>` where the curve ends below the row, `<` where it begins above it, empty where it was interpolated."""

    def __str__(self) -> str:
        return f"{self.bound}{self.value:.1f}"


def multiplier(miou: float, labels: int, curve: Sequence[tuple[int, float]]) -> Multiplier | None:
    """The fewest that give as much: interpolated on the curve, linear in the logarithm of the number of labels.

    None without a curve.
    """
    if not curve:
        return None
    if miou < curve[0][1]:
        return Multiplier(curve[0][0] / labels, "<")
    for count, reached in curve:
        if miou == reached:
            return Multiplier(count / labels)
    for (fewer, low), (more, high) in itertools.pairwise(curve):
        if low < miou < high:
            share = (miou - low) / (high - low)
            return Multiplier(math.exp(math.log(fewer) + share * math.log(more / fewer)) / labels)
    return Multiplier(curve[-1][0] / labels, ">")


def as_json(found: Sequence[Point]) -> list[dict[str, Any]]:
    """Rows of `results.json`."""
    curve = baseline_curve(found)
    return [
        {
            "row": point.row,
            "labels": point.labels,
            "seeds": list(point.seeds),
            "miou_mean": point.miou,
            "miou_sd": point.spread,
            "label_multiplier": _text(multiplier(point.miou, point.labels, curve)),
            **{score: list(values) for score, values in point.values.items()},
            "per_class_iou": {name: list(values) for name, values in point.per_class_iou.items()},
            "seconds": round(point.seconds, 1),
            "peak_memory_bytes": point.peak_memory_bytes,
        }
        for point in found
    ]


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of what is there; None where nothing is."""
    present = [value for value in values if value is not None]
    return statistics.fmean(present) if present else None


def _text(value: Multiplier | None) -> str | None:
    return None if value is None else str(value)
