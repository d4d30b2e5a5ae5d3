"""The lease protocol under random interleavings: three workers, a virtual clock, kills, cancels and retries."""

from __future__ import annotations

import shutil
import tempfile
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import event

from service import jobs, steps
from service.bootstrap import build_factory
from service.database import migrate
from service.errors import Conflict, LeaseLost
from service.settings import Settings
from service.steps import ClaimedStep
from service.tables import DEFAULT_WORKSPACE_ID, Step
from tests.factories import job_now, label_spec, lose, record_shard

WORKERS = st.sampled_from(["a", "b", "c"])
DONE = {"succeeded", "failed", "cancelled"}


@cache
def empty_database() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """A migrated file to copy, made once since every example needs one, and its folder, which goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="lf-machine-")
    path = Path(folder.name) / "empty.sqlite"
    migrate(f"sqlite:///{path}")
    return path, folder


class LeaseMachine(RuleBasedStateMachine):
    """One job with one head, three shards, a seal and an export; workers do what workers do."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="lf-machine-"))
        shutil.copy(empty_database()[0], self.folder / "factory.sqlite")
        self.factory = build_factory(Settings(data_dir=self.folder, shard_size=2)).within(DEFAULT_WORKSPACE_ID)
        self.now = datetime(2026, 1, 1)
        event.listen(self.factory.engine, "connect", self.give_clock)
        self.held: dict[str, ClaimedStep] = {}
        self.past: list[ClaimedStep] = []
        self.successes: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.outputs: dict[str, object] = {}

    def give_clock(self, connection: Any, _record: Any) -> None:
        """SQLite asks this machine for the time."""
        connection.create_function("strftime", 3, self.strftime)

    def strftime(self, _format: str, _now: str, offset: str) -> str:
        then = self.now + timedelta(seconds=float(offset.removesuffix(" seconds")))
        return f"{then:%Y-%m-%d %H:%M:%S}.{then.microsecond // 1000:03}"

    def teardown(self) -> None:
        if hasattr(self, "job_id"):
            self.everything_ends()
        self.factory.close()
        shutil.rmtree(self.folder)

    @initialize()
    def make_job(self) -> None:
        with self.factory.work() as work:
            self.job_id = jobs.create(work, label_spec(work, num_images=6)).job.id

    def everything_ends(self) -> None:
        """Whatever has happened: all workers are gone, one sound one comes, and the job comes to its end."""
        for _ in range(60):
            if job_now(self.factory, self.job_id).state in DONE:
                return
            self.now += timedelta(seconds=self.factory.settings.lease_seconds + 1)
            self.reaps()
            self.claims("a")
            self.succeeds("a")
        raise AssertionError("the job never ends")

    def rows(self) -> list[Step]:
        with self.factory.read() as work:
            return steps.list_of_job(work, self.job_id)

    def current(self, held: ClaimedStep) -> bool:
        """Whether this worker truly holds the step."""
        return any(row.id == held.id and row.token == held.token and row.state == "running" for row in self.rows())

    @rule(worker=WORKERS)
    def claims(self, worker: str) -> None:
        with self.factory.work() as work:
            step = steps.claim(work, queues=("gpu", "cpu"), owner=worker)
        if step is not None:
            assert step.token > self.tokens.get(step.id, 0)
            assert step.attempt <= self.factory.settings.max_attempts
            self.held[worker] = step
            self.past.append(step)

    @rule(worker=WORKERS)
    def succeeds(self, worker: str) -> None:
        held = self.held.pop(worker, None)
        if held is None:
            return
        holds = self.current(held)
        try:
            with self.factory.work() as work:
                if held.kind == "label_shard":
                    record_shard(work, held)
                steps.record_success(work, held.id, held.token, {"token": held.token})
        except LeaseLost:
            assert not holds
        else:
            assert holds
            self.successes[held.id] = self.successes.get(held.id, 0) + 1
            self.outputs[held.id] = {"token": held.token}

    @rule(worker=WORKERS, retryable=st.booleans())
    def fails(self, worker: str, retryable: bool) -> None:
        held = self.held.pop(worker, None)
        if held is not None:
            self.expect_fence(
                held, lambda work: steps.record_failure(work, held.id, held.token, {}, retryable=retryable)
            )

    @rule(worker=WORKERS)
    def gives_back(self, worker: str) -> None:
        held = self.held.pop(worker, None)
        if held is not None:
            self.expect_fence(held, lambda work: steps.release(work, held.id, held.token))

    @rule(worker=WORKERS)
    def beats(self, worker: str) -> None:
        held = self.held.get(worker)
        if held is None:
            return
        holds = self.current(held)
        with self.factory.work() as work:
            beat = steps.heartbeat(work, held.id, held.token)
        assert beat.alive == holds
        if beat.cancel_requested:
            self.expect_fence(held, lambda work: steps.record_cancelled(work, held.id, held.token))
            del self.held[worker]

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def a_ghost_records(self, data: st.DataObject) -> None:
        """Somebody who once held a step, and may have ended or given it back, speaks again."""
        ghost = data.draw(st.sampled_from(self.past))
        if not self.current(ghost):
            self.expect_fence(ghost, lambda work: steps.record_success(work, ghost.id, ghost.token, {"from": "ghost"}))

    @rule(worker=WORKERS)
    def is_killed(self, worker: str) -> None:
        """It holds a step and will never speak of it again."""
        self.held.pop(worker, None)

    @rule(seconds=st.sampled_from([1, 6, 20, 61, 3_600, -3_600]))
    def time_passes(self, seconds: int) -> None:
        """Or the clock is set back."""
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.held)
    @rule(worker=WORKERS)
    def falls_silent(self, worker: str) -> None:
        held = self.held.get(worker)
        if held is not None and self.current(held):
            lose(self.factory, held.id)

    @rule(worker=WORKERS, heir=WORKERS)
    def is_replaced(self, worker: str, heir: str) -> None:
        """The worker stalls past its lease, another takes over, and the first wakes up to record its result."""
        self.claims(worker)
        self.falls_silent(worker)
        self.claims(heir)
        self.succeeds(worker)

    @rule()
    def reaps(self) -> None:
        with self.factory.work() as work:
            steps.reap(work)

    @rule(verb=st.sampled_from([jobs.cancel, jobs.retry]))
    def is_cancelled_or_retried(self, verb: object) -> None:
        try:
            with self.factory.work() as work:
                verb(work, self.job_id)  # type: ignore[operator]
        except Conflict:
            pass

    def expect_fence(self, held: ClaimedStep, record: object) -> None:
        """Records if and only if the worker holds the step."""
        holds = self.current(held)
        try:
            with self.factory.work() as work:
                record(work)  # type: ignore[operator]
        except LeaseLost:
            assert not holds
        else:
            assert holds

    @invariant()
    def tokens_never_shrink_and_success_is_final(self) -> None:
        if not hasattr(self, "job_id"):
            return
        rows = self.rows()
        for row in rows:
            assert row.token >= self.tokens.get(row.id, 0)
            self.tokens[row.id] = row.token
            assert self.successes.get(row.id, 0) <= 1
            assert (row.state == "succeeded") == (self.successes.get(row.id, 0) == 1)
            if row.state == "succeeded":
                assert row.output == self.outputs[row.id]
        assert len({(row.kind, row.index) for row in rows}) == len(rows)
        job = job_now(self.factory, self.job_id)
        states = {row.state for row in rows}
        if job.state == "succeeded":
            assert states == {"succeeded"}
        if job.state in DONE:
            assert "ready" not in states
        if job.state in {"queued", "running"}:
            assert states & {"ready", "running"}, "the job would wait for ever"


TestLeases = LeaseMachine.TestCase
TestLeases.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
