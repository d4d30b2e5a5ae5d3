"""The part of these tests that is quick: a kill, a frozen worker, a lost commit and a hanging step, in half a minute."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest

from service import steps
from service.bootstrap import Factory
from tests.chaos import checker
from tests.chaos.conftest import Results
from tests.chaos.faults import Plan, Striker
from tests.chaos.template import Template, opened
from tests.chaos.worker import Fleet, small_batches
from tests.factories import job_now
from workers.context import Outcome, StepContext
from workers.handlers import HANDLERS
from workers.lease import STALLED_EXIT


@pytest.mark.timeout(600)
def test_killed_and_frozen_workers_change_nothing(
    shards: Template, undisturbed_shards: Results, plan: Plan, tmp_path: Path
) -> None:
    settings = shards.copy(tmp_path / "data", shard_size=4)
    points = {"fit_head": "first_batch", "label_shard": "mid_batch", "export_dataset": "before_commit"}
    plan = dataclasses.replace(plan, points=points)
    with opened(settings) as factory, Fleet(settings, plan, size=2) as fleet:
        fleet.tend_until(fleet.batches_after(20), seconds=60)
        frozen = fleet.processes[0]
        os.kill(frozen.pid or 0, signal.SIGSTOP)
        time.sleep(settings.lease_seconds + 1)
        os.kill(frozen.pid or 0, signal.SIGCONT)
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=60)
        assert {strike.kind for strike in plan.struck()} == set(points)
        checker.check(factory, shards.ids, undisturbed_shards)
        repeated = checker.repeated_batches(plan)
    assert {kind: count for kind, count in repeated.items() if kind not in checker.WHOLE and count > 2} == {}


def endless(_context: StepContext) -> Outcome:
    while True:
        time.sleep(0.1)


def with_endless_loop(striker: Striker, factory: Factory) -> None:
    small_batches(striker, factory)
    HANDLERS["fit_head"] = endless


@pytest.mark.timeout(300)
def test_a_hanging_step_fails_with_its_reason(shards: Template, plan: Plan, tmp_path: Path) -> None:
    settings = shards.copy(tmp_path / "data", shard_size=4, max_attempts=2, stall_seconds=1.5)
    with opened(settings) as factory, Fleet(settings, plan, prepare=with_endless_loop) as fleet:
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=60)
        job = job_now(factory, shards.ids[0])
        with factory.read() as work:
            (step,) = steps.list_of_job(work, job.id)
        assert set(fleet.exits) <= {STALLED_EXIT}
    assert (job.state, step.attempt) == ("failed", 2)
    assert (job.error or {})["type"] == "stalled"
