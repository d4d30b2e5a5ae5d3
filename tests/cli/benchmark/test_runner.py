"""What a run of a benchmark knows of itself; that it runs at all is shown in test_benchmark."""

from pathlib import Path

from cli.benchmark.record import Record
from cli.benchmark.rows import Cell, Task
from cli.benchmark.runner import Runner
from cli.client import Client


def test_jobs_kept_of_rows_not_asked_for_are_not_counted(tmp_path: Path) -> None:
    record = Record(tmp_path)
    for key in ("n5-s0-few", "n5-s0-head"):
        record.keep(key, {"job": {"result": {}}, "steps": [], "report": None})
    tasks = [Task("n5-s0-few", {}), Task("n5-s1-few", {})]
    runner = Runner(Client("http://127.0.0.1:9"), record, "run", tasks, first=Cell(5, 0))
    assert (len(runner.done), runner.ended()) == (2, 1)
