"""The log and the curves of a job, from its events."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from api.dashboard.job_log import curves, log_lines
from service.tables import Event


def event(event_type: str, **data: Any) -> Event:
    return Event(type=event_type, job_id="job_1", step_id="step_1", data=data, created_at=datetime.now(UTC))


def progress(done: int, **metrics: float) -> Event:
    return event("step.progress", kind="train_generator", done=done, unit="steps", metrics=metrics)


def test_what_is_measured_now_and_then_stands_where_it_was_measured() -> None:
    found = curves(
        [
            progress(100, loss=3.0),
            progress(160, loss=2.5, kernel_distance=40.0, look_step=150.0),
            progress(300, loss=2.0, kernel_distance=40.0, look_step=150.0),
            progress(510, loss=1.5, kernel_distance=20.0, look_step=500.0),
            progress(900, loss=1.0, kernel_distance=20.0, look_step=500.0),
        ]
    )
    by_metric = {curve["metric"]: (curve["x"], curve["y"]) for curve in found}
    assert by_metric == {
        "loss": ([100, 160, 300, 510, 900], [3.0, 2.5, 2.0, 1.5, 1.0]),
        "kernel_distance": ([150.0, 500.0], [40.0, 20.0]),
    }


def test_a_step_that_begins_again_goes_on_to_the_right() -> None:
    found = curves([progress(done, loss=1.0) for done in (100, 200, 190, 220, 50, 100)])
    assert found[0]["x"] == [100, 200, 220, 270, 320]


def test_warnings_and_errors_are_told_from_the_rest() -> None:
    lines = log_lines([event("log", message=level, level=level) for level in ("info", "warning", "error")], [])
    assert [(line.words, line.tone) for line in lines] == [("info", ""), ("warning", "warn"), ("error", "bad")]
