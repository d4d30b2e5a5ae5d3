"""One process at a time, as often as wanted, and never for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from service import duties
from service.bootstrap import Factory
from service.clock import database_now
from service.errors import LeaseLost
from service.tables import Duty


def take(factory: Factory, owner: str = "one", every_seconds: float = 0.0) -> int | None:
    with factory.work() as work:
        return duties.take(work, "collect", owner=owner, every_seconds=every_seconds)


def must_take(factory: Factory) -> int:
    token = take(factory)
    assert token is not None
    return token


def test_one_at_a_time_and_not_again_too_soon(any_factory: Factory) -> None:
    token = must_take(any_factory)
    assert take(any_factory, "two") is None
    with any_factory.work() as work:
        duties.renew(work, "collect", token)
        duties.finish(work, "collect", token)
    assert take(any_factory, every_seconds=60) is None
    assert take(any_factory) == token + 1


def test_what_is_given_back_undone_is_due_at_once(any_factory: Factory) -> None:
    token = must_take(any_factory)
    with any_factory.work() as work:
        duties.give_back(work, "collect", token)
    assert take(any_factory, every_seconds=60) == token + 1


def test_the_duty_of_a_killed_process_is_taken_over(any_factory: Factory) -> None:
    token = must_take(any_factory)
    with any_factory.work() as work:
        work.session.execute(update(Duty).values(lease_until=database_now(-1)))
    assert take(any_factory, "two", every_seconds=60) == token + 1
    for late in (duties.renew, duties.finish, duties.give_back):
        with pytest.raises(LeaseLost), any_factory.work() as work:
            late(work, "collect", token)


def test_of_many_that_want_it_one_gets_it(any_factory: Factory) -> None:
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda number: take(any_factory, f"process {number}"), range(16)))
    assert len([token for token in taken if token is not None]) == 1
