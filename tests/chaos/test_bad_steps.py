"""Steps that kill their worker, exhaust its memory, never end or exit: each ends with its reason, others go on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from service import steps
from service.bootstrap import Factory
from service.settings import Settings
from tests.chaos import checker
from tests.chaos.conftest import Ledger, Results, database_of
from tests.chaos.faults import Plan, Striker
from tests.chaos.template import EVERY_KIND, Template, make_template, opened, shards_only
from tests.chaos.worker import Fleet, small_batches
from tests.factories import job_now
from workers import label_shard
from workers.context import Outcome, StepContext
from workers.handlers import HANDLERS
from workers.lease import STALLED_EXIT

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

BAD = "train_generator"


def poison(_context: StepContext) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def hard_exit(_context: StepContext) -> Outcome:
    os._exit(3)


def soft_exit(_context: StepContext) -> Outcome:
    raise SystemExit("a library gave up")


def greedy(_context: StepContext) -> Outcome:
    return Outcome({"size": len(bytes(1 << 60))})


def endless(_context: StepContext) -> Outcome:
    while True:
        time.sleep(0.1)


def with_poison(striker: Striker, factory: Factory) -> None:
    _with(poison, striker, factory)


def with_hard_exit(striker: Striker, factory: Factory) -> None:
    _with(hard_exit, striker, factory)


def with_soft_exit(striker: Striker, factory: Factory) -> None:
    _with(soft_exit, striker, factory)


def with_greed(striker: Striker, factory: Factory) -> None:
    _with(greedy, striker, factory)


def with_endless_loop(striker: Striker, factory: Factory) -> None:
    _with(endless, striker, factory)


def _with(handler: Any, striker: Striker, factory: Factory) -> None:
    small_batches(striker, factory)
    HANDLERS[BAD] = handler


@pytest.fixture(scope="module")
def two_jobs(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """The bad one and a good one beside it."""
    documents = {BAD: EVERY_KIND[BAD], **shards_only(8)}
    return make_template(tmp_path_factory.mktemp("two") / "template", documents, shard_size=4)


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest, two_jobs: Template, tmp_path: Path) -> Settings:
    changes = {"max_attempts": 3, "stall_seconds": 8.0, "shard_size": 4}
    if request.param == "sqlite":
        return two_jobs.copy(tmp_path / "data", **changes)
    url = request.getfixturevalue("postgresql_url")
    return two_jobs.copy_to_postgresql(tmp_path / "data", url, **changes)


@pytest.mark.parametrize(
    ("name", "prepare", "kind", "words", "attempts", "exits"),
    [
        ("kills its worker", with_poison, "worker-lost", "lost 3 times", 3, [-signal.SIGKILL] * 3),
        ("exits hard", with_hard_exit, "worker-lost", "lost 3 times", 3, [3] * 3),
        ("raises SystemExit", with_soft_exit, "internal", "SystemExit: a library gave up", 3, []),
        ("raises MemoryError", with_greed, "out-of-memory", "MemoryError", 1, []),
        ("loops for ever", with_endless_loop, "stalled", "no sign of life", 3, [STALLED_EXIT] * 3),
    ],
)
def test_a_bad_step_fails_with_its_reason_and_others_go_on(
    both: Settings,
    two_jobs: Template,
    plan: Plan,
    ledger: Ledger,
    name: str,
    prepare: Any,
    kind: str,
    words: str,
    attempts: int,
    exits: list[int],
) -> None:
    with opened(both) as factory, Fleet(both, plan, size=2, prepare=prepare) as fleet:
        fleet.tend_until(lambda: checker.has_ended(factory, two_jobs.ids), seconds=240)
        fleet.tend_until(lambda: len(fleet.exits) >= len(exits), seconds=10)
        assert fleet.exits == exits
        bad, good = (job_now(factory, two_jobs.jobs[job]) for job in (BAD, "shards"))
        with factory.read() as work:
            (step,) = steps.list_of_job(work, bad.id)
        checker.check_objects(factory)
        checker.check_database(factory)
    assert (bad.state, good.state) == ("failed", "succeeded")
    assert (step.state, step.attempt) == ("failed", attempts)
    error = bad.error or {}
    assert error["type"] == kind
    assert words in error["detail"]
    ledger.write(f"a step that {name}", database_of(both), attempts)


def small_accelerator(striker: Striker, factory: Factory) -> None:
    """Batches of more than two images do not fit."""
    label_shard.inference_batch = lambda *_: 4  # type: ignore[assignment]
    real = label_shard.label_synthesized

    def label(labeller: Any, seeds: list[int], **options: Any) -> Any:
        if len(seeds) > 2:
            striker.first()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(labeller, seeds, **options)

    label_shard.label_synthesized = label


def test_a_batch_that_does_not_fit_is_halved(
    any_shards: Settings, shards: Template, undisturbed_shards: Results, plan: Plan, ledger: Ledger
) -> None:
    with opened(any_shards) as factory, Fleet(any_shards, plan, size=2, prepare=small_accelerator) as fleet:
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=200)
        assert fleet.exits == []
        assert plan.struck()
        checker.check(factory, shards.ids, undisturbed_shards)
        with factory.read() as work:
            assert {row.attempt for row in steps.list_of_job(work, shards.ids[0])} == {1}
    ledger.write("accelerator out of memory: the batch is halved", database_of(any_shards), 12)
