"""Workers that are frozen past their lease and wake up, and clocks that jump by an hour."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from sqlalchemy import update

from service import clock
from service.bootstrap import Factory
from service.settings import Settings
from service.tables import Step
from tests.chaos import checker
from tests.chaos.conftest import Ledger, Results, database_of
from tests.chaos.faults import Plan, Point, Striker
from tests.chaos.template import Template, opened
from tests.chaos.worker import Fleet, small_batches

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("point", ["mid_batch", "after_write"])
def test_a_frozen_worker_wakes_up_after_its_step_was_done_by_another(
    any_shards: Settings, shards: Template, undisturbed_shards: Results, plan: Plan, ledger: Ledger, point: Point
) -> None:
    plan = dataclasses.replace(plan, points={"label_shard": point}, signal=signal.SIGSTOP)
    with opened(any_shards) as factory, Fleet(any_shards, plan, size=2) as fleet:
        fleet.tend_until(lambda: any(map(is_stopped, fleet.processes)), seconds=120)
        frozen = next(filter(is_stopped, fleet.processes))
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=200)
        os.kill(frozen.pid or 0, signal.SIGCONT)
        (strike,) = plan.struck()
        fleet.tend_until(lambda: lost(fleet, strike.step_id), seconds=60)
        checker.check(factory, shards.ids, undisturbed_shards)
        recovery = checker.recovery_seconds(factory, plan)
        assert fleet.exits == []
    name = f"SIGSTOP past the lease, {point.replace('_', ' ')}"
    ledger.write(name, database_of(any_shards), 1, recovery=recovery)
    assert recovery <= 2 * any_shards.lease_seconds


def lost(fleet: Fleet, step_id: str) -> bool:
    """Whether the first attempt at a step has found out that it was lost."""
    lines = fleet.log.read_text().splitlines()
    return any("ending=lost" in line and "attempt=1" in line and step_id in line for line in lines)


def is_stopped(process: BaseProcess) -> bool:
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


def an_hour_ahead(striker: Striker, factory: Factory) -> None:
    """Only the worker's wall clock is wrong."""
    small_batches(striker, factory)
    move_clock(3_600)


def an_hour_behind(striker: Striker, factory: Factory) -> None:
    small_batches(striker, factory)
    move_clock(-3_600)


def move_clock(seconds: float) -> None:
    real_time = time.time
    time.time = lambda: real_time() + seconds

    class MovedDatetime(clock.datetime):  # type: ignore[misc, name-defined]
        @classmethod
        def now(cls, tz: object = None) -> object:
            return clock.datetime.fromtimestamp(time.time(), tz)

    clock.datetime = MovedDatetime  # type: ignore[attr-defined]


@pytest.mark.parametrize("prepare", [an_hour_ahead, an_hour_behind])
def test_a_workers_wrong_clock_changes_nothing(
    shards_on_postgresql: Settings,
    shards: Template,
    undisturbed_shards: Results,
    plan: Plan,
    ledger: Ledger,
    prepare: object,
) -> None:
    settings = shards_on_postgresql
    with opened(settings) as factory, Fleet(settings, plan, size=2, prepare=prepare) as fleet:  # type: ignore[arg-type]
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=200)
        assert fleet.exits == []
        checker.check(factory, shards.ids, undisturbed_shards)
        with factory.read() as work:
            assert {row.lost for row in work.session.query(Step)} == {0}
    ledger.write(f"worker's clock {prepare.__name__.replace('_', ' ')}", "PostgreSQL", 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("hours", [1, -1])
def test_the_databases_clock_jumps_and_a_worker_dies(
    any_shards: Settings, shards: Template, undisturbed_shards: Results, plan: Plan, ledger: Ledger, hours: int
) -> None:
    """Leases end an hour too early or too late: what a jump of the database's clock makes of them."""
    with opened(any_shards) as factory, Fleet(any_shards, plan, size=2) as fleet:
        fleet.tend_until(fleet.batches_after(6), seconds=120)
        victim = fleet.processes[0]
        os.kill(victim.pid or 0, signal.SIGKILL)
        died_at = time.monotonic()
        with factory.work() as work:
            moved = clock.database_now(-hours * 3_600.0)
            change = update(Step).where(Step.state == "running").values(lease_until=moved)
            work.session.execute(change, execution_options={"synchronize_session": False})
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=200)
        checker.check(factory, shards.ids, undisturbed_shards)
    way = "forward" if hours > 0 else "back"
    ledger.write(f"database's clock {way} by an hour, and a kill", database_of(any_shards), 2)
    assert time.monotonic() - died_at < 200
