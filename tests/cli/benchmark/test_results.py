"""From kept jobs to numbers: the label multiplier, budgets and spreads."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.benchmark.record import Record
from cli.benchmark.results import as_json, baseline_curve, multiplier, path_steps, points
from cli.benchmark.rows import Cell
from cli.benchmark.runner import Runner
from cli.benchmark.tables import render
from cli.client import Client

CURVE = [(5, 0.4), (10, 0.5), (20, 0.6)]


def kept(rows: dict[str, float], *, made_by: str | None = None, pools: list[str] | None = None) -> dict[str, Any]:
    """A job as the benchmark keeps it."""
    measured = [
        {"name": name, "miou": miou, "boundary_iou": 0.1, "ap": None, "ap50": None}
        | {"expected_calibration_error": 0.2, "per_class_iou": {"cell": miou, "never": None}}
        for name, miou in rows.items()
    ]
    step = {"kind": "distil", "index": 0, "seconds": 10.0, "peak_memory_bytes": 5, "attempt": 1, "pool": None}
    job = {"service": "run", "made_by": made_by, "pools": pools, "result": {}, "steps": [step]}
    return {**job, "rows": measured, "recipe": {"steps": 100}}


@pytest.mark.parametrize(
    ("miou", "labels", "expected"),
    [(0.5, 5, "2.0"), (0.55, 5, "2.8"), (0.7, 5, ">4.0"), (0.6, 5, "4.0"), (0.3, 5, "<1.0"), (0.3, 10, "<0.5")],
)
def test_the_multiplier_is_read_off_the_curve_in_log_labels(miou: float, labels: int, expected: str) -> None:
    assert str(multiplier(miou, labels, CURVE)) == expected


def test_where_more_labels_gave_nothing_the_fewest_count() -> None:
    assert str(multiplier(0.88, 5, [(5, 0.88), (10, 0.88), (40, 0.9)])) == "1.0"


def test_without_a_curve_there_is_no_multiplier() -> None:
    assert multiplier(0.5, 5, []) is None


@given(
    st.lists(st.tuples(st.integers(2, 200), st.floats(0, 1)), min_size=1, max_size=6, unique_by=lambda p: p[0]),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_better_score_is_never_worth_less(raw: list[tuple[int, float]], one: float, other: float) -> None:
    heights = sorted(miou for _, miou in raw)
    curve = [(count, height) for (count, _), height in zip(sorted(raw), heights, strict=True)]
    low, high = sorted((one, other))
    worse, better = multiplier(low, 5, curve), multiplier(high, 5, curve)
    assert worse is not None
    assert better is not None
    assert worse.value <= better.value * (1 + 1e-9)


def test_points_average_the_seeds_that_are_done_and_the_curve_takes_the_better_budget() -> None:
    done = {
        "n5-s0-few": kept({"student": 0.4}),
        "n5-s1-few": kept({"student": 0.6}),
        "n10-s0-few": kept({"student": 0.45}),
        "n5-s0-few-long": kept({"student": 0.55}),
    }
    found = points(done)
    by_place = {(point.row, point.labels): point for point in found}
    assert by_place["few", 5].miou == pytest.approx(0.5)
    assert by_place["few", 5].spread == pytest.approx(0.1414, abs=1e-3)
    assert by_place["few_long", 5].spread is None
    # Ten labels did worse than five here: the curve must not fall.
    assert baseline_curve(found) == [(5, pytest.approx(0.55)), (10, pytest.approx(0.55))]
    assert {row["row"] for row in as_json(found)} == {"few", "few_long"}
    facts = {"pack": "cells", "held_out": 3, "unlabelled": 9, "generator": "g", "device": "a CPU"}
    facts |= {"commands": ["first", "second"], "generator_digests": ["a", "b"]}
    page = render(facts, found, {"n5-s0-head": "no memory"}, ["miou.png"])
    assert "0.500 ± 0.141" in page
    assert "0.550 (1)" in page
    assert "failed: n5-s0-head: no memory" in page
    assert "| few labels only | 0.500 | - |" in page
    assert "    first\n    second\n" in page
    assert "generator `g` (2 of them, one in each service" in page


def test_a_row_costs_what_its_dataset_cost_without_the_shards_of_other_pools() -> None:
    made = kept({}, pools=["encoded", "synthesized"])
    shard = {"kind": "label_shard", "index": 0, "seconds": 3.0, "peak_memory_bytes": 7, "attempt": 1}
    made["steps"] = [{**shard, "pool": "encoded"}, {**shard, "pool": "synthesized", "seconds": 50.0}]
    student = kept({"student": 0.5}, made_by="n5-s0-data-ours", pools=["encoded"])
    done = {"n5-s0-data-ours": made, "n5-s0-data-mlp": kept({}), "n5-s0-label-encoded": student}
    assert sum(step["seconds"] for step in path_steps("n5-s0-label-encoded", done)) == 13.0
    student["pools"] = None
    assert sum(step["seconds"] for step in path_steps("n5-s0-label-encoded", done)) == 63.0


def test_the_whole_budget_is_what_the_few_labels_would_be_trained_in_the_time_of_our_path(tmp_path: Path) -> None:
    made = kept({})
    made["steps"] = [
        {"kind": "fit_head", "seconds": 20.0, "pool": None},
        {"kind": "label_shard", "seconds": 6.0, "pool": "encoded"},
        {"kind": "label_shard", "seconds": 99.0, "pool": "synthesized"},
        {"kind": "export_dataset", "seconds": 50.0, "pool": None},
    ]
    few = kept({"student": 0.4})
    few["steps"] = [{"kind": "train_student", "seconds": 9.0, "pool": None}]
    record = Record(tmp_path)
    runner = Runner(Client("http://nowhere"), record, "run", [], first=Cell(5, 0))
    runner.done = {"n5-s0-data-ours": made, "n5-s0-few": few}
    assert runner.whole_budget_steps() is None
    runner.done["n5-s0-label-encoded"] = kept({"student": 0.5}, made_by="n5-s0-data-ours", pools=["encoded"])
    assert runner.whole_budget_steps() == 400  # 100 steps took 9 s; our path 20 + 6 + 10
    few["steps"][0]["seconds"] = 1_000.0
    assert runner.whole_budget_steps() == 100
