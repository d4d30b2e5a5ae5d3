"""Workers say that they are there; who falls silent is missed, who takes leave is not."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import update

from service import workers
from service.bootstrap import Factory
from service.clock import database_now
from service.tables import Worker
from service.workers import SignOfLife

SIGN = SignOfLife("host:1", "host", ["gpu"], "cpu", 10, 100, 1_000)


def beat(factory: Factory, sign: SignOfLife = SIGN) -> None:
    with factory.work() as work:
        workers.beat(work, sign)


def silence(factory: Factory, seconds: float) -> None:
    with factory.work() as work:
        work.session.execute(update(Worker).values(seen_at=database_now(-seconds)))


def names(factory: Factory) -> tuple[list[str], list[str]]:
    with factory.read() as work:
        return [row.name for row in workers.alive(work)], [row.name for row in workers.missing(work)]


def test_a_worker_is_alive_while_it_beats(any_factory: Factory) -> None:
    beat(any_factory)
    beat(any_factory, replace(SIGN, memory_used_bytes=20))
    assert names(any_factory) == (["host:1"], [])
    with any_factory.read() as work:
        (row,) = workers.alive(work)
        assert (row.memory_used_bytes, row.queues) == (20, ["gpu"])
        assert row.started_at <= row.seen_at


def test_who_is_silent_for_a_lease_is_missed_and_after_an_hour_forgotten(any_factory: Factory) -> None:
    beat(any_factory)
    silence(any_factory, any_factory.settings.lease_seconds + 1)
    beat(any_factory, replace(SIGN, name="host:2"))
    assert names(any_factory) == (["host:2"], ["host:1"])
    silence(any_factory, workers.FORGET_SECONDS + 1)
    beat(any_factory, replace(SIGN, name="host:3"))
    assert names(any_factory) == (["host:3"], [])


def test_who_takes_leave_is_not_missed(any_factory: Factory) -> None:
    beat(any_factory)
    with any_factory.work() as work:
        workers.leave(work, "host:1")
    assert names(any_factory) == ([], [])
