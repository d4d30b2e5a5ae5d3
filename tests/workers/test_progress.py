"""Rate and time left from reports."""

from __future__ import annotations

import pytest

from workers import progress
from workers.progress import ProgressTracker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_rate_counts_from_where_the_work_was_taken_up(clock: list[float]) -> None:
    tracker = ProgressTracker()
    tracker.report(40, 100, {}, unit="images", message=None)
    clock[0] += 10
    tracker.report(60, 100, {"loss": 0.25, "bad": float("nan")}, unit="images", message="synthesized")
    snapshot = tracker.snapshot()
    assert snapshot is not None
    assert (snapshot.rate, snapshot.eta_seconds) == (2.0, 20.0)
    assert snapshot.metrics == {"loss": 0.25}


def test_what_a_resumed_step_skips_counts_for_a_minute_at_most(clock: list[float]) -> None:
    tracker = ProgressTracker()
    for done in (1350, 2700, *range(3800, 4000, 10)):  # two members were done before, the third goes on at 3,800
        tracker.report(done, 4050, {}, unit="steps", message=None)
        clock[0] += 5
    snapshot = tracker.snapshot()
    assert snapshot is not None
    assert (snapshot.rate, snapshot.eta_seconds) == (2.0, 30.0)


def test_the_rate_is_that_of_the_last_minute(clock: list[float]) -> None:
    tracker = ProgressTracker()
    done = 0
    for pace in (10, 1):
        for _ in range(100):
            tracker.report(done, 10_000, {}, unit="images", message=None)
            clock[0] += 1
            done += pace
    snapshot = tracker.snapshot()
    assert snapshot is not None
    assert snapshot.rate == 1.0


def test_reports_further_apart_than_a_minute_have_a_rate(clock: list[float]) -> None:
    tracker = ProgressTracker()
    for done in (0, 10, 20):
        tracker.report(done, 30, {}, unit="steps", message=None)
        clock[0] += 200
    snapshot = tracker.snapshot()
    assert snapshot is not None
    assert (snapshot.rate, snapshot.eta_seconds) == (0.05, 200.0)


def test_a_new_unit_begins_a_new_count(clock: list[float]) -> None:
    tracker = ProgressTracker()
    tracker.report(0, 10, {}, unit="images", message=None)
    clock[0] += 1
    tracker.report(5, 100, {}, unit="steps", message=None)
    snapshot = tracker.snapshot()
    assert snapshot is not None
    assert snapshot.rate is None


def test_saying_something_keeps_the_numbers(clock: list[float]) -> None:
    tracker = ProgressTracker()
    tracker.say("loading")
    tracker.report(3, 10, {}, unit="images", message=None)
    tracker.say("writing")
    snapshot = tracker.snapshot()
    assert snapshot is not None
    assert (snapshot.done, snapshot.message) == (3, "writing")
