"""The benchmark's jobs: each row has one, each comes after what it needs, all of them are jobs the service takes."""

import pytest

from cli.benchmark.rows import FEW, OUR_PATH, ROWS, Cell, Materials, Task, cells, chosen_rows, tasks
from cli.client import CliError
from service.job_spec import dump, parse

MATERIALS = Materials(
    few={5: "ann_5", 10: "ann_10", 40: "ann_40"},
    test="ann_test",
    pool="pool_1",
    generator="gen",
    encoder="enc",
    weights="imagenet",
    num_images=100,
)
GRID = cells([5, 10, 40], 40, 2)


def everything() -> list[Task]:
    return tasks(list(ROWS.values()), GRID, MATERIALS)


def test_every_job_comes_after_those_it_needs_and_none_twice() -> None:
    seen: set[str] = set()
    for task in everything():
        assert set(task.needs.values()) <= seen
        assert task.key not in seen
        seen.add(task.key)
    assert {cell.task(row.job) for row in ROWS.values() for cell, full in GRID if full or row.every_count} <= seen


@pytest.mark.parametrize("task", everything(), ids=lambda task: task.key)
def test_every_body_is_a_job_that_the_service_takes(task: Task) -> None:
    results = {key: {name: f"{name}_1"} for name, key in task.needs.items()}
    body = task.filled(results, 1_000)
    assert {name: dump(parse(body))[name] for name in body if name not in ("student", "head")} == {
        name: value for name, value in body.items() if name not in ("student", "head")
    }
    if task.whole_budget:
        assert body["student"]["steps"] == 1_000


def test_all_rows_stand_at_the_two_smallest_numbers_only_the_few_labels_at_the_others() -> None:
    at_40 = {task.key for task in everything() if task.key.startswith("n40-")}
    assert at_40 == {f"n40-s{seed}-{name}" for seed in (0, 1) for name in ("few", "few-long", "few-imagenet")}
    assert [cell for cell, _ in GRID][:2] == [Cell(5, 0), Cell(5, 1)]


def test_the_whole_budget_brings_the_path_that_it_is_measured_by() -> None:
    found = tasks([ROWS["few_long"]], GRID, MATERIALS)
    assert {GRID[0][0].task(name) for name in (FEW, OUR_PATH)} <= {task.key for task in found}
    assert sum(OUR_PATH in task.key for task in found) == 1
    known = tasks([ROWS["few_long"]], GRID, MATERIALS, budget_known=True)
    assert {task.key for task in known} == {cell.task("few-long") for cell, _ in GRID}


def test_the_rows_from_imagenet_weights_are_one_student_with_the_same_start() -> None:
    bodies = {task.key.partition("s0-")[2]: task.body for task in everything() if task.key.startswith("n5-s0")}
    start = {"architecture": "upernet_efficientnet_lite0", "weights": "imagenet"}
    assert bodies["few-imagenet"]["student"] == start
    assert bodies["label-encoded-imagenet"]["student"] == {"mode": "label", **start}
    assert bodies["label-encoded-imagenet"]["pools"] == ["encoded"]
    assert bodies["encoder-imagenet"]["student"] == start
    assert not any("imagenet" in row.key for row in chosen_rows(None, sampled=True, encoder=True, weights=False))


def test_without_samples_or_encoder_their_rows_are_left_out_and_an_unknown_row_is_named() -> None:
    keys = {row.key for row in chosen_rows(None, sampled=False, encoder=False, weights=False)}
    assert keys == {
        "few", "few_long", "self_training", "ddpm_seg", "head", "label_encoded", "feature_encoded", "mix_encoded"
    }  # fmt: skip
    with pytest.raises(CliError, match="there is no row nonsense"):
        chosen_rows("few,nonsense", sampled=True, encoder=True, weights=True)


def test_rows_that_need_no_generator_make_jobs_without_one() -> None:
    free = [row for row in ROWS.values() if not row.generator]
    assert {row.key for row in free} == {
        "few",
        "few_long",
        "few_imagenet",
        "self_training",
        "encoder",
        "encoder_head",
        "encoder_imagenet",
    }
    materials = Materials(few={5: "ann_5"}, test="ann_t", pool="pool_1", generator=None, encoder="lite", num_images=0)
    jobs = tasks(free, [(Cell(5, 0), True)], materials, budget_known=True)
    assert all(task.body.get("generator", "lite") == "lite" for task in jobs)
