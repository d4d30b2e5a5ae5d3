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
