"""The heartbeat thread: what it renews, and when it says stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from service import jobs, steps
from service.bootstrap import Factory
from service.settings import Settings
from service.unit_of_work import Work
from tests import factories
from workers import lease as lease_module
from workers.lease import STALLED_EXIT, Lease, StopReason


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data_dir=tmp_path / "data", lease_seconds=0.6, heartbeat_seconds=0.1, progress_event_seconds=0.05)


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def lease_on(factory: Factory, shutdown: threading.Event | None = None) -> Lease:
    return Lease(factory, factories.must_claim(factory), lambda: None, shutdown or threading.Event())


def test_the_lease_is_renewed_while_the_handler_computes(factory: Factory) -> None:
    factories.make_job(factory)
    with lease_on(factory) as lease:
        time.sleep(1.5)
        assert lease.stop_reason() is None
        assert factories.claim(factory, "worker-2") is None


def test_a_lost_step_is_noticed(factory: Factory) -> None:
    factories.make_job(factory)
    with lease_on(factory) as lease:
        # In one transaction, or a heartbeat would come in between.
        with factory.work() as work:
            from sqlalchemy import update

            from service.tables import Step

            work.session.execute(update(Step).values(token=Step.token + 1, owner="worker-2"))
        wait_for(lambda: lease.stop_reason() is StopReason.LOST)


def test_a_cancelled_job_is_noticed(factory: Factory) -> None:
    job = factories.make_job(factory)
    with lease_on(factory) as lease:
        with factory.work() as work:
            jobs.cancel(work, job.id)
        wait_for(lambda: lease.stop_reason() is StopReason.CANCELLED)


def test_a_cancelled_job_is_noticed_between_two_beats(factory: Factory) -> None:
    rare = {"lease_seconds": 60.0, "heartbeat_seconds": 20.0}
    factory = replace(factory, settings=factory.settings.model_copy(update=rare))
    job = factories.make_job(factory)
    with lease_on(factory) as lease:
        with factory.work() as work:
            jobs.cancel(work, job.id)
        wait_for(lambda: lease.stop_reason() is StopReason.CANCELLED)


@pytest.mark.parametrize("lost", [False, True])
def test_a_step_without_a_sign_of_life_ends_its_process(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    factory = replace(factory, settings=factory.settings.model_copy(update={"stall_seconds": 0.8}))
    ended: list[int] = []
    monkeypatch.setattr(lease_module.os, "_exit", ended.append)
    factories.make_job(factory)
    step = factories.must_claim(factory)
    if lost:
        factories.lose(factory, step.id)
        assert factories.must_claim(factory, "worker-2").token == 2
    with Lease(factory, step, lambda: None, threading.Event()) as lease:
        for _ in range(12):
            lease.stop_reason()  # asks, so it lives
            time.sleep(0.1)
        assert ended == []
        wait_for(lambda: ended != [])
    lease._thread.join()  # before `os._exit` is itself again
    assert set(ended) == {STALLED_EXIT}
    with factory.read() as work:
        row = steps.get(work, step.id)
    assert (row.state, row.attempt) == (("running", 2) if lost else ("ready", 1))
    assert lost or (row.error is not None and row.error["type"] == "stalled")


def test_shutdown_is_a_reason_to_stop(factory: Factory) -> None:
    factories.make_job(factory)
    shutdown = threading.Event()
    with lease_on(factory, shutdown) as lease:
        assert lease.stop_reason() is None
        shutdown.set()
        assert lease.stop_reason() is StopReason.SHUTDOWN


class UnreachableFactory(Factory):
    """A factory whose database is away."""

    @contextmanager
    def work(self) -> Iterator[Work]:  # type: ignore[override]
        raise ConnectionError("the database is away")
        yield


def test_a_database_that_is_silent_for_a_whole_lease_stops_the_work(factory: Factory) -> None:
    factories.make_job(factory)
    step = factories.must_claim(factory)
    away = UnreachableFactory(**{name: getattr(factory, name) for name in factory.__dataclass_fields__})
    started = time.monotonic()
    with Lease(away, replace(step), lambda: None, threading.Event()) as lease:
        wait_for(lambda: lease.stop_reason() is StopReason.LOST)
    assert time.monotonic() - started >= 0.5
