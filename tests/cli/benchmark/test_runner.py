"""What a run of a benchmark knows of itself; that it runs at all is shown in test_benchmark."""

from pathlib import Path

from cli.benchmark.record import Record
from cli.benchmark.rows import Cell, Task
from cli.benchmark.runner import Runner
from cli.client import Client

DATA, OLD, NEW = "n5-s0-data-ours", "n5-s0-label-encoded", "n5-s0-mix-encoded"


def runner(record: Record, tasks: list[Task], *, service: str = "here") -> Runner:
    return Runner(Client("http://127.0.0.1:9"), record, service, tasks, first=Cell(5, 0))


def kept(record: Record, *keys: str, service: str = "here") -> None:
    for key in keys:
        record.keep(key, {"service": service, "result": {}, "steps": [], "rows": []})


def test_jobs_kept_of_rows_not_asked_for_are_not_counted(tmp_path: Path) -> None:
    record = Record(tmp_path)
    kept(record, "n5-s0-few", "n5-s0-head")
    run = runner(record, [Task("n5-s0-few", {}), Task("n5-s1-few", {})])
    assert (len(run.done), run.ended()) == (2, 1)


def test_what_another_service_measured_stays_and_its_dataset_is_made_again_only_for_a_new_row(tmp_path: Path) -> None:
    record = Record(tmp_path)
    kept(record, DATA, OLD, service="elsewhere")
    old, new = (Task(key, {}, {"dataset_id": DATA}) for key in (OLD, NEW))
    assert {*runner(record, [Task(DATA, {}), old]).done} == {DATA, OLD}, "nothing is left to do"
    assert {*runner(record, [Task(DATA, {}), old, new]).done} == {OLD}
    assert {*runner(record, [Task(DATA, {}), old, new], service="elsewhere").done} == {DATA, OLD}


def test_facts_and_jobs_share_a_file_and_neither_loses_the_other(tmp_path: Path) -> None:
    record = Record(tmp_path)
    kept(record, "n5-s1-few", "n5-s0-few")
    record.keep_facts({"pack": "cells"})
    kept(record, "n5-s0-head")
    again = Record(tmp_path)
    assert again.facts() == {"pack": "cells"}
    assert list(again.jobs()) == ["n5-s0-few", "n5-s0-head", "n5-s1-few"]
