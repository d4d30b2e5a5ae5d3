"""Works the benchmark's jobs off: a few in flight at a time, each kept when it ends, none made twice.

What was measured in another service stays measured; a dataset that is only there is made again where a job still needs it.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence

from cli.benchmark.record import Record
from cli.benchmark.results import SCORES, path_steps
from cli.benchmark.rows import FEW, OUR_PATH, Cell, Task
from cli.client import Client, Json
from cli.output import console
from cli.submission import submit_or_resume
from cli.watch import TERMINAL

POLL_SECONDS = 1.0
COMPUTE = frozenset({"fit_head", "label_shard", "distil"})
"""Steps whose time our path spends beyond what the few labels alone would cost."""


class Runner:
    """One run of a benchmark; what `record` has already is not run again.

    `run_id` tells this service from others that a part of the record may come from.
    """

    def __init__(self, client: Client, record: Record, run_id: str, tasks: Sequence[Task], *, first: Cell) -> None:
        self.client, self.record, self.run_id, self.tasks = client, record, run_id, tasks
        self.path, self.few = first.task(OUR_PATH), first.task(FEW)
        kept = record.jobs()
        needed = {key for task in tasks if task.key not in kept for key in task.needs.values()}
        self.done: dict[str, Json] = {
            key: job for key, job in kept.items() if key not in needed or job["service"] == run_id
        }
        self.failed: dict[str, str] = {}
        self._begun = time.monotonic()
        self._finished_now = 0

    def run(self, *, in_flight: int) -> None:
        """Until every job has ended; what needs a failed one is left out and named in `failed`."""
        active: dict[str, tuple[Task, str]] = {}
        while True:
            for task in self._ready(active):
                if len(active) >= in_flight:
                    break
                body = task.filled({key: kept["result"] for key, kept in self.done.items()}, self._budget())
                job = submit_or_resume(self.client, body, f"{self.run_id}/{task.key}/{_digest(body)}")
                active[task.key] = (task, job["id"])
            if not active:
                return
            time.sleep(POLL_SECONDS)
            for key, (task, job_id) in list(active.items()):
                job = self.client.get(f"/v1/jobs/{job_id}")
                if job["state"] in TERMINAL:
                    del active[key]
                    self._ended(task, job)

    def ended(self) -> int:
        """How many of the tasks are done; more may be kept, of rows that are not asked for now."""
        return sum(task.key in self.done for task in self.tasks)

    def whole_budget_steps(self) -> int | None:
        """Steps on the few labels alone in the time of our whole path, by this run's clock; None before both have run."""
        if not {self.path, self.few} <= {*self.done}:
            return None
        seconds = sum(step["seconds"] for step in path_steps(self.path, self.done) if step["kind"] in COMPUTE)
        few = next(step for step in self.done[self.few]["steps"] if step["kind"] == "train_student")
        steps = int(self.done[self.few]["recipe"]["steps"])
        # Never fewer than they had: our path has a student of its own to train.
        return max(steps, round(steps * float(seconds) / float(few["seconds"])))

    def _budget(self) -> int | None:
        facts = self.record.facts()
        if "whole_budget_steps" not in facts and (steps := self.whole_budget_steps()) is not None:
            facts["whole_budget_steps"] = steps
            self.record.keep_facts(facts)
        known: int | None = facts.get("whole_budget_steps")
        return known

    def _ready(self, active: Mapping[str, object]) -> list[Task]:
        waiting = [task for task in self.tasks if task.key not in {*self.done, *self.failed, *active}]
        for task in waiting:
            if lost := [key for key in task.needs.values() if key in self.failed]:
                self.failed[task.key] = f"needs {lost[0]}"
        ready = [task for task in waiting if task.key not in self.failed and {*task.needs.values()} <= {*self.done}]
        budget_known = self._budget() is not None
        return [task for task in ready if not task.whole_budget or budget_known]

    def _ended(self, task: Task, job: Json) -> None:
        if job["state"] != "succeeded":
            error = job.get("error") or {}
            self.failed[task.key] = str(error.get("detail") or error.get("title") or job["state"])
            console.print(f"failed {task.key}: {self.failed[task.key]}", style="red", markup=False)
            return
        steps = self.client.items(f"/v1/jobs/{job['id']}/steps")
        report_id = job["result"].get("report_id")
        rows = [] if report_id is None else self.client.get(f"/v1/reports/{report_id}")["content"]["rows"]
        kept: Json = {
            "service": self.run_id,
            "made_by": task.needs.get("dataset_id"),
            "pools": job["spec"].get("pools"),
            "result": job["result"],
            "steps": [_cost(step) for step in steps],
            "rows": [{name: row.get(name) for name in ("name", *SCORES, "per_class_iou")} for row in rows],
            "recipe": self._recipe(job),
        }
        self.record.keep(task.key, kept)
        self.done[task.key] = kept
        self._finished_now += 1
        console.print(self._line(task, kept), markup=False)

    def _recipe(self, job: Json) -> Json | None:
        """How the job's student was trained, its curves left out."""
        student_id = job["result"].get("student_id")
        if student_id is None:
            return None
        recipe = self.client.get(f"/v1/students/{student_id}")["card"]["recipe"]
        return {name: value for name, value in recipe.items() if name != "curves"}

    def _line(self, task: Task, kept: Json) -> str:
        seconds = sum(step["seconds"] for step in kept["steps"])
        scores = ", ".join(f"{row['name']} {row['miou']:.3f}" for row in kept["rows"])
        left = len(self.tasks) - self.ended() - len(self.failed)
        eta = left * (time.monotonic() - self._begun) / self._finished_now
        return f"{self.ended()}/{len(self.tasks)}  {task.key:<28} {scores or 'done':<16} {seconds:6.0f} s   about {eta / 60:.0f} min left"


def _digest(body: Json) -> str:
    """A part of the idempotency key: another option makes another job, the same makes the same."""
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:12]


def _cost(step: Json) -> Json:
    kept = {name: step[name] for name in ("kind", "index", "seconds", "peak_memory_bytes", "attempt")}
    return {**kept, "pool": (step["output"] or {}).get("pool")}
