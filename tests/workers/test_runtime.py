"""One step from claim to record, whatever its handler does."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import structlog

from models.contracts import Stopped
from service import jobs, steps
from service.bootstrap import Factory
from service.errors import Invalid, StorageFull, UnreadableSpec
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID, Step
from tests import factories
from workers.context import Outcome, StepContext
from workers.problems import StepError
from workers.runtime import run_next_step
from workers.scratch import steps_folder


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        lease_seconds=3.0,
        heartbeat_seconds=0.1,
        progress_event_seconds=0.1,
        retry_backoff_seconds=0.0,
    )


def run(factory: Factory, handler: Any, **options: Any) -> bool:
    return run_next_step(factory, "worker-1", {"fit_head": handler}, **options)


def only_step(factory: Factory, job_id: str) -> Step:
    with factory.read() as work:
        return next(step for step in steps.list_of_job(work, job_id) if step.kind == "fit_head")


def test_nothing_is_ready(factory: Factory) -> None:
    assert run(factory, None) is False


def test_success_is_recorded_with_output_and_cost(factory: Factory) -> None:
    job = factories.make_job(factory)
    assert run(factory, lambda context: Outcome({"answer": 1}))
    step = only_step(factory, job.id)
    assert step.state == "succeeded"
    assert step.output == {"answer": 1}
    assert step.seconds is not None
    assert step.peak_memory_bytes is not None
    assert step.peak_memory_bytes > 1_000_000


def test_the_rows_of_a_step_are_undone_when_its_record_fails(factory: Factory) -> None:
    job = factories.make_job(factory)

    def record(work: Any) -> None:
        jobs.get(work, job.id).name = "changed"
        raise Invalid("no")

    run(factory, lambda context: Outcome({}, record))
    assert only_step(factory, job.id).state == "failed"
    assert factories.job_now(factory, job.id).name != "changed"


def test_progress_reaches_the_row(factory: Factory) -> None:
    job = factories.make_job(factory)
    run(factory, lambda context: context.progress(3, 10, {"loss": 0.5}, unit="images") or Outcome({}))
    progress = only_step(factory, job.id).progress
    assert progress is not None
    assert (progress["done"], progress["total"], progress["unit"]) == (3, 10, "images")
    assert progress["metrics"] == {"loss": 0.5}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out-of-memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory"),
        (OSError(28, "No space left on device"), "disk-full"),
        (StorageFull("The object store is full."), "storage-full"),
        (ValueError("a shape is wrong"), "internal"),
        (StepError("broken-input", "No label map.", "Upload again."), "broken-input"),
    ],
)
def test_final_failures_fail_the_job_with_their_reason(factory: Factory, error: Exception, kind: str) -> None:
    job = factories.make_job(factory)

    def handler(context: StepContext) -> Outcome:
        raise error

    assert run(factory, handler)
    step = only_step(factory, job.id)
    assert step.state == "failed"
    assert step.error is not None
    assert step.error["type"] == kind
    assert step.error["detail"]
    assert step.error["hint"]
    assert factories.job_now(factory, job.id).state == "failed"


def test_a_failure_that_may_pass_is_tried_again(factory: Factory) -> None:
    job = factories.make_job(factory)
    attempts: list[int] = []

    def handler(context: StepContext) -> Outcome:
        attempts.append(context.step.attempt)
        if len(attempts) < 3:
            raise ConnectionError("reset by peer")
        return Outcome({})

    while len(attempts) < 3 and run(factory, handler):
        pass
    assert attempts == [1, 2, 3]
    assert only_step(factory, job.id).state == "succeeded"


def test_a_handler_that_exits_fails_its_step_and_not_the_worker(factory: Factory) -> None:
    job = factories.make_job(factory)

    def handler(context: StepContext) -> Outcome:
        raise SystemExit("a library gave up")

    for _ in range(factory.settings.max_attempts):
        assert run(factory, handler)
    error = only_step(factory, job.id).error
    assert error is not None
    assert error["detail"] == "SystemExit: a library gave up"
    assert factories.job_now(factory, job.id).state == "failed"


def test_the_second_signal_ends_the_worker(factory: Factory) -> None:
    job = factories.make_job(factory)
    shutdown = threading.Event()

    def handler(context: StepContext) -> Outcome:
        shutdown.set()
        raise SystemExit(143)

    with pytest.raises(SystemExit):
        run(factory, handler, shutdown=shutdown)
    assert only_step(factory, job.id).state == "running", "the lease runs out"


def test_an_unknown_step_is_a_failure_not_a_crash(factory: Factory) -> None:
    job = factories.make_job(factory)
    assert run_next_step(factory, "worker-1", {})
    assert only_step(factory, job.id).state == "failed"


def wait_until_stopped(context: StepContext) -> Outcome:
    for _ in range(100):
        context.check()
        threading.Event().wait(0.05)
    raise AssertionError("nobody asked to stop")


def test_a_job_of_another_release_fails_and_keeps_nobody_waiting(factory: Factory) -> None:
    """A release that went back: the job has an option that this worker does not know."""
    theirs, ours = factories.make_job(factory), factories.make_job(factory)
    with factory.work() as work:
        job = jobs.get(work, theirs.id)
        job.spec = {**job.spec, "wings": 2}
    handler = lambda context: Outcome({"steps": context.label_spec.seed})  # noqa: E731
    assert run(factory, handler)
    assert run(factory, handler)
    with factory.read() as work:
        job = jobs.get(work, theirs.id)
        assert job.state == "failed"
        assert job.error is not None
        assert job.error["type"] == "other-release"
        assert "wings" in job.error["detail"]
    assert only_step(factory, ours.id).state == "succeeded"
    with pytest.raises(UnreadableSpec), factory.work() as work:
        jobs.retry(work, theirs.id)
    with factory.work() as work:
        job = jobs.get(work, theirs.id)
        job.spec = {name: value for name, value in job.spec.items() if name != "wings"}
        work.session.flush()
        jobs.retry(work, theirs.id)
        jobs.cancel(work, ours.id)  # its shards would go first
    assert run(factory, handler)
    assert only_step(factory, theirs.id).state == "succeeded"


def test_a_job_of_another_release_can_be_cancelled(factory: Factory) -> None:
    job = factories.make_job(factory)
    with factory.work() as work:
        jobs.get(work, job.id).spec = {**job.spec, "wings": 2}
    with factory.work() as work:
        assert jobs.cancel(work, job.id).state == "cancelled"


def test_a_cancelled_job_stops_its_step(factory: Factory) -> None:
    job = factories.make_job(factory)

    def handler(context: StepContext) -> Outcome:
        with factory.work() as work:
            jobs.cancel(work, job.id)
        return wait_until_stopped(context)

    run(factory, handler)
    assert only_step(factory, job.id).state == "cancelled"
    assert factories.job_now(factory, job.id).state == "cancelled"


def test_shutdown_gives_the_step_back_with_its_checkpoint(factory: Factory) -> None:
    job = factories.make_job(factory)
    shutdown = threading.Event()

    def handler(context: StepContext) -> Outcome:
        (context.checkpoint.folder / "state").write_text("half")
        shutdown.set()
        return wait_until_stopped(context)

    run(factory, handler, shutdown=shutdown)
    step = only_step(factory, job.id)
    assert (step.state, step.attempt) == ("ready", 0)
    seen: list[str] = []
    run(factory, lambda context: seen.append((context.checkpoint.folder / "state").read_text()) or Outcome({}))
    assert seen == ["half"]
    assert only_step(factory, job.id).state == "succeeded"


def test_a_worker_that_lost_its_step_records_nothing(factory: Factory) -> None:
    job = factories.make_job(factory)

    def handler(context: StepContext) -> Outcome:
        factories.lose(factory, context.step.id)
        other = factories.must_claim(factory, "worker-2")
        assert other.id == context.step.id
        return Outcome({"from": "worker-1"})

    run(factory, handler)
    step = only_step(factory, job.id)
    assert (step.state, step.owner, step.output) == ("running", "worker-2", None)


def test_the_scratch_folder_is_gone_afterwards(factory: Factory) -> None:
    factories.make_job(factory)

    def handler(context: StepContext) -> Outcome:
        (context.scratch / "large").write_bytes(b"x")
        raise Stopped

    run(factory, handler)
    assert list(steps_folder(factory.settings).iterdir()) == []


def test_a_nearly_full_disk_fails_the_step_before_it_begins(tmp_path, migrated_sqlite) -> None:
    from service.bootstrap import build_factory

    (tmp_path / "factory.sqlite").write_bytes(migrated_sqlite.read_bytes())
    factory = build_factory(Settings(data_dir=tmp_path, min_free_bytes=2**50)).within(DEFAULT_WORKSPACE_ID)
    job = factories.make_job(factory)
    assert run(factory, lambda context: Outcome({}))
    error = only_step(factory, job.id).error
    assert error is not None
    assert error["type"] == "disk-full"
    assert run(factory, None) is False


def test_every_line_about_a_step_carries_its_ids(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the thread that renews the lease included."""
    job = factories.make_job(factory)

    def unreachable(*_: Any, **__: Any) -> None:
        raise ConnectionError("away")

    def handler(context: StepContext) -> Outcome:
        with monkeypatch.context() as patch:
            patch.setattr(steps, "heartbeat", unreachable)
            threading.Event().wait(0.5)
        raise ValueError("a shape is wrong")

    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        run(factory, handler)
    step = only_step(factory, job.id)
    assert {"step begins", "heartbeat failed", "step failed", "step ends"} <= {line["event"] for line in lines}
    for line in lines:
        assert line["job_id"] == job.id
        assert line.get("step_id", step.id) == step.id
        assert "step_id" in line or line["event"] == "job state"
