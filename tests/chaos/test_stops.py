"""Cancel, retry and SIGTERM in every kind of step and every state of a job."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from sqlalchemy import select

from service import jobs, steps
from service.bootstrap import Factory
from service.errors import Conflict
from service.settings import Settings
from service.tables import Step
from tests.chaos import checker
from tests.chaos.conftest import Ledger, Results, database_of
from tests.chaos.faults import Plan
from tests.chaos.template import Template, opened
from tests.chaos.worker import Fleet
from tests.factories import job_now

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

CANCEL_SECONDS = 2.0
"""On idle cores."""
STOP_SECONDS = 30.0
DEFAULTS = {"lease_seconds": 60.0, "heartbeat_seconds": 5.0, "progress_event_seconds": 1.0}
"""The product's own: quicker beats would flatter."""
ORDER = {
    "label": [
        "fit_head",
        "label_shard",
        "seal_dataset",
        "distil",
        "export_dataset",
        "train_baseline",
        "evaluate",
    ],
    "train_generator": ["train_generator"],
    "train_student": ["train_student"],
}


@pytest.fixture(params=["sqlite", "postgresql"])
def copied(request: pytest.FixtureRequest, template: Template, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return template.copy(tmp_path / "data", **DEFAULTS)
    return template.copy_to_postgresql(tmp_path / "data", request.getfixturevalue("postgresql_url"), **DEFAULTS)


def cancel_limit() -> float:
    """As much longer as this machine has more to do than cores to do it."""
    return CANCEL_SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def is_running(factory: Factory, job_id: str, kind: str) -> Callable[[], bool]:
    """Whether such a step runs, or is over already: some last for milliseconds."""

    def look() -> bool:
        with factory.read() as work:
            found = [step.state for step in steps.list_of_job(work, job_id) if step.kind == kind]
        return "running" in found or (bool(found) and set(found) == {"succeeded"})

    return look


def holds(factory: Factory, process: BaseProcess) -> bool:
    """Whether this worker holds any step."""
    with factory.read() as work:
        query = select(Step.id).where(Step.state == "running", Step.owner == str(process.pid))
        return work.session.scalars(query).first() is not None


def cancel(factory: Factory, job_id: str, fleet: Fleet | None = None) -> float:
    """Cancel and wait; seconds until the job says so."""
    started = time.monotonic()
    with factory.work() as work:
        jobs.cancel(work, job_id)
    while job_now(factory, job_id).state != "cancelled":
        assert time.monotonic() - started < 60, fleet.log.read_text()[-3000:] if fleet else "not cancelled"
        time.sleep(0.02)
    return time.monotonic() - started


def retry(factory: Factory, job_id: str) -> None:
    with factory.work() as work:
        jobs.retry(work, job_id)


def test_cancel_in_every_kind_of_step_and_retry(
    copied: Settings, template: Template, undisturbed: Results, plan: Plan, ledger: Ledger
) -> None:
    waits: dict[str, float] = {}
    with opened(copied) as factory, Fleet(copied, plan, size=2) as fleet:
        for name, kinds in ORDER.items():
            job_id = template.jobs[name]
            for kind in kinds:
                fleet.tend_until(is_running(factory, job_id, kind), seconds=200)
                try:
                    waits[kind] = cancel(factory, job_id, fleet)
                except Conflict:
                    assert kind == kinds[-1], "the last step was quicker"
                    break
                retry(factory, job_id)
        fleet.tend_until(lambda: checker.has_ended(factory, template.ids), seconds=300)
        assert fleet.exits == []
        for job_id in template.ids:
            with factory.read() as work:
                assert jobs.get(work, job_id).state == "succeeded"
                assert checker.fingerprint(work, job_id) == undisturbed[job_id]
        checker.check_objects(factory)
    worst = max(waits, key=lambda kind: waits[kind])
    ledger.write(
        f"cancel and retry in every kind of step ({worst} slowest)",
        database_of(copied),
        len(waits),
        recovery=waits[worst],
    )
    assert waits[worst] <= cancel_limit(), waits


def test_cancel_in_every_state(copied: Settings, template: Template, plan: Plan, ledger: Ledger) -> None:
    """Queued, claimed, twice, ended, and while the worker that holds a step is dead."""
    label, other = template.jobs["label"], template.jobs["train_student"]
    with opened(copied) as factory:
        waits = {"queued": cancel(factory, label), "twice": cancel(factory, label)}
        retry(factory, label)
        with Fleet(copied, plan, size=1) as fleet:
            fleet.tend_until(lambda: job_now(factory, label).state == "running", seconds=60)
            fleet.tend_until(fleet.batches_after(1), seconds=60)
        beats = copied.heartbeat_seconds * 3 + 1
        time.sleep(beats)  # all workers are dead, and have been for three heartbeats
        waits["dead worker"] = cancel(factory, label)
        cancel(factory, other)
    ledger.write(
        "cancel while queued, twice, worker dead", database_of(copied), len(waits), recovery=max(waits.values())
    )
    assert max(waits.values()) <= cancel_limit(), waits


def test_sigterm_in_every_kind_of_step(
    copied: Settings, template: Template, undisturbed: Results, plan: Plan, ledger: Ledger
) -> None:
    """The step is handed over with its checkpoint: no attempt counts, and nobody waits for a lease."""
    waits: dict[str, float] = {}
    with opened(copied) as factory, Fleet(copied, plan, size=1) as fleet:
        for name, kinds in ORDER.items():
            for kind in kinds:
                fleet.tend_until(is_running(factory, template.jobs[name], kind), seconds=300)
                (process,) = fleet.processes
                if not holds(factory, process):
                    continue  # that step was over in milliseconds
                started = time.monotonic()
                os.kill(process.pid or 0, signal.SIGTERM)
                process.join(STOP_SECONDS)
                assert process.exitcode == 0, f"{kind}: {process.exitcode}"
                waits[kind] = time.monotonic() - started
                fleet.tend()
        fleet.tend_until(lambda: checker.has_ended(factory, template.ids), seconds=300)
        checker.check(factory, template.ids, undisturbed)
        with factory.read() as work:
            for job_id in template.ids:
                assert {(row.attempt, row.lost) for row in steps.list_of_job(work, job_id)} == {(1, 0)}
    repeated = {kind: count for kind, count in checker.repeated_batches(plan).items() if kind not in checker.WHOLE}
    assert len(waits) >= 5
    worst = max(waits, key=lambda kind: waits[kind])
    ledger.write(
        f"SIGTERM in every kind of step ({worst} slowest to end)",
        database_of(copied),
        len(waits),
        recovery=waits[worst],
        repeated=max(repeated.values()),
    )
    assert max(repeated.values()) <= 1, repeated
