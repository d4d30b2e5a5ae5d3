"""The lease protocol, on both databases."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import update

from service import events, jobs, steps
from service.bootstrap import Factory
from service.clock import database_now, read_clock
from service.errors import LeaseLost
from service.steps import Progress
from service.tables import Step
from tests.factories import claim, job_now, label_spec, lose, make_job, must_claim, run_to_end, state_of, succeed


def test_a_label_job_runs_through_its_plan(any_factory: Factory) -> None:
    job = make_job(any_factory)
    assert job.state == "queued"
    kinds = run_to_end(any_factory, job.id)
    assert kinds == ["fit_head", "label_shard", "label_shard", "label_shard", "seal_dataset", "export_dataset"]
    ended = job_now(any_factory, job.id)
    assert ended.state == "succeeded"
    assert ended.started_at is not None
    assert ended.finished_at is not None


def test_a_claimed_step_carries_what_its_handler_needs(any_factory: Factory) -> None:
    job = make_job(any_factory)
    head = must_claim(any_factory)
    assert (head.kind, head.attempt, head.token, head.checkpoint_key) == ("fit_head", 1, 1, None)
    assert head.spec.kind == "label"
    succeed(any_factory, head, {"head_key": "steps/x/1-head"})
    shard = must_claim(any_factory)
    assert shard.params["count"] == 256
    assert shard.job_result["dataset_id"].startswith("ds_")
    with any_factory.read() as work:
        assert steps.outputs(work, job.id, "fit_head") == [{"head_key": "steps/x/1-head"}]


def test_one_step_is_given_to_one_worker(any_factory: Factory) -> None:
    make_job(any_factory)
    assert claim(any_factory, "a") is not None
    assert claim(any_factory, "b") is None


def test_two_open_claims_take_two_shards(postgresql_factory: Factory) -> None:
    make_job(postgresql_factory)
    succeed(postgresql_factory, must_claim(postgresql_factory))
    with postgresql_factory.sessions.begin() as one, postgresql_factory.sessions.begin() as two:
        from service.unit_of_work import Work

        works = [Work(s, postgresql_factory.storage, postgresql_factory.settings) for s in (one, two)]
        first = works[0].session.scalars(steps._most_urgent(["gpu"], works[0].settings)).one()
        second = works[1].session.scalars(steps._most_urgent(["gpu"], works[1].settings)).one()
        assert first != second


def test_a_worker_asks_only_for_its_queues(any_factory: Factory) -> None:
    make_job(any_factory)
    assert claim(any_factory, queues=("cpu",)) is None


def test_a_lost_step_is_taken_over_and_the_zombie_records_nothing(any_factory: Factory) -> None:
    make_job(any_factory)
    zombie = must_claim(any_factory, "zombie")
    lose(any_factory, zombie.id)
    heir = must_claim(any_factory, "heir")
    assert (heir.id, heir.token, heir.attempt) == (zombie.id, 2, 2)
    with any_factory.work() as work:
        assert not steps.heartbeat(work, zombie.id, zombie.token).alive
    with pytest.raises(LeaseLost), any_factory.work() as work:
        steps.record_success(work, zombie.id, zombie.token, {"from": "zombie"})
    succeed(any_factory, heir, {"from": "heir"})
    with pytest.raises(LeaseLost), any_factory.work() as work:
        steps.record_failure(work, zombie.id, zombie.token, {"detail": "late"})
    with any_factory.read() as work:
        assert steps.get(work, heir.id).output == {"from": "heir"}


@pytest.mark.parametrize("reaped", [False, True])
def test_a_lease_from_before_the_clock_was_set_back_ends(any_factory: Factory, reaped: bool) -> None:
    make_job(any_factory)
    dead = must_claim(any_factory, "dead")
    with any_factory.work() as work:
        work.session.execute(update(Step).where(Step.id == dead.id).values(lease_until=database_now(3_600)))
        if reaped:
            assert steps.reap(work) == 1
    assert must_claim(any_factory, "heir").token == 2
    assert claim(any_factory) is None


@pytest.mark.parametrize("attempt", [1, 2])
def test_a_pause_from_before_the_clock_was_set_back_ends(any_factory: Factory, attempt: int) -> None:
    make_job(any_factory)
    for _ in range(attempt):
        failed = must_claim(any_factory)
        with any_factory.work() as work:
            steps.record_failure(work, failed.id, failed.token, {"detail": "store away"}, retryable=True)
        assert claim(any_factory) is None, "it waits"
        with any_factory.work() as work:
            work.session.execute(update(Step).where(Step.id == failed.id).values(not_before=database_now(3_600)))
    assert must_claim(any_factory).attempt == attempt + 1


def test_the_pause_of_a_late_attempt_is_an_hour_at_most(factory: Factory) -> None:
    patient = replace(factory, settings=factory.settings.model_copy(update={"max_attempts": 100}))
    make_job(patient)
    step = must_claim(patient)
    with patient.work() as work:
        work.session.execute(update(Step).where(Step.id == step.id).values(attempt=99))
    with patient.work() as work:
        steps.record_failure(work, step.id, step.token, {"detail": "store away"}, retryable=True)
        pause = work.session.get_one(Step, step.id).not_before
        assert pause is not None
        assert timedelta(0) < pause - read_clock(work.session) <= timedelta(hours=1)


def test_a_heartbeat_keeps_the_lease_and_the_progress(any_factory: Factory) -> None:
    job = make_job(any_factory)
    step = must_claim(any_factory)
    lose(any_factory, step.id)
    for done in (1, 2):
        with any_factory.work() as work:
            beat = steps.heartbeat(work, step.id, step.token, progress=Progress(done, 10, metrics={"loss": 0.5}))
            assert beat.alive
            assert not beat.cancel_requested
    assert claim(any_factory) is None
    with any_factory.read() as work:
        progress = steps.get(work, step.id).progress
        assert progress is not None
        assert (progress["done"], progress["total"], progress["metrics"]) == (2, 10, {"loss": 0.5})
        # The second came within a second of the first and is in the snapshot only.
        assert [e.data["done"] for e in events.after(work, job.id) if e.type == "step.progress"] == [1]


def test_a_week_of_progress_leaves_a_log_that_people_can_load(
    any_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PROGRESS_HISTORY", 10)
    job = make_job(any_factory)
    step = must_claim(any_factory)
    for done in range(1, 201):
        with any_factory.work() as work:
            now = read_clock(work.session) + timedelta(minutes=done)
            monkeypatch.setattr(events, "read_clock", lambda _session, now=now: now)
            assert steps.heartbeat(work, step.id, step.token, progress=Progress(done, 200)).alive
    with any_factory.read() as work:
        found = [e for e in events.after(work, job.id, limit=1_000) if e.type == "step.progress"]
    done = [event.data["done"] for event in found]
    assert done[0] == 1
    assert done[-1] == 200
    assert 25 <= len(done) <= 10 * (2 + math.log(200 / 10))
    gaps = [after - before for before, after in pairwise(done)]
    assert max(gaps) <= 200 / 10 + 1
    assert gaps[:7] == [1] * 7


def test_a_step_that_loses_three_workers_fails_the_job(any_factory: Factory) -> None:
    job = make_job(any_factory)
    step = must_claim(any_factory)
    for _ in range(2):
        lose(any_factory, step.id)
        must_claim(any_factory)
    lose(any_factory, step.id)
    assert claim(any_factory) is None
    assert state_of(any_factory, step.id) == "failed"
    error = job_now(any_factory, job.id).error
    assert error is not None
    assert error["detail"] == "the worker was lost 3 times while running this step"
    assert error["step_kind"] == "fit_head"


def test_the_reaper_gives_back_and_rings(any_factory: Factory) -> None:
    make_job(any_factory)
    step = must_claim(any_factory)
    lose(any_factory, step.id)
    any_factory.doorbell.rung.clear()  # type: ignore[attr-defined]
    with any_factory.work() as work:
        assert steps.reap(work) == 1
    assert state_of(any_factory, step.id) == "ready"
    assert any_factory.doorbell.rung == ["gpu"]  # type: ignore[attr-defined]


def test_a_retryable_failure_waits_and_is_tried_again(any_factory: Factory) -> None:
    make_job(any_factory)
    step = must_claim(any_factory)
    with any_factory.work() as work:
        steps.record_failure(work, step.id, step.token, {"detail": "store away"}, retryable=True)
    assert claim(any_factory) is None  # not before its pause is over
    with any_factory.work() as work:
        row = steps.get(work, step.id)
        assert row.state == "ready"
        assert row.error == {"detail": "store away"}
        row.not_before = None
    assert must_claim(any_factory).attempt == 2


def test_a_retryable_failure_of_the_last_attempt_is_final(any_factory: Factory) -> None:
    job = make_job(any_factory)
    for attempt in range(1, 4):
        step = must_claim(any_factory)
        assert step.attempt == attempt
        with any_factory.work() as work:
            steps.record_failure(work, step.id, step.token, {"detail": "store away"}, retryable=True)
        with any_factory.work() as work:
            steps.get(work, step.id).not_before = None
    assert job_now(any_factory, job.id).state == "failed"


def test_a_failed_step_stops_its_siblings(any_factory: Factory) -> None:
    job = make_job(any_factory)
    succeed(any_factory, must_claim(any_factory))
    first, second = must_claim(any_factory, "a"), must_claim(any_factory, "b")
    with any_factory.work() as work:
        steps.record_failure(work, first.id, first.token, {"title": "Broken", "detail": "no memory"})
    ended = job_now(any_factory, job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["detail"] == "no memory"
    with any_factory.work() as work:
        assert steps.heartbeat(work, second.id, second.token).cancel_requested
        steps.record_cancelled(work, second.id, second.token)
    with any_factory.read() as work:
        states = {step.kind + str(step.index): step.state for step in steps.list_of_job(work, job.id)}
    assert states["label_shard0"] == "failed"
    assert states["label_shard1"] == states["label_shard2"] == "cancelled"
    assert claim(any_factory) is None


def test_release_gives_the_step_back_without_counting_the_attempt(any_factory: Factory) -> None:
    make_job(any_factory)
    step = must_claim(any_factory)
    with any_factory.work() as work:
        steps.save_checkpoint(work, step.id, step.token, "steps/x/1-checkpoint")
        steps.release(work, step.id, step.token)
    again = must_claim(any_factory)
    assert (again.attempt, again.token, again.checkpoint_key) == (1, 2, "steps/x/1-checkpoint")


def test_rows_of_a_zombie_are_rolled_back_with_its_record(factory: Factory) -> None:
    job = make_job(factory)
    zombie = must_claim(factory)
    lose(factory, zombie.id)
    must_claim(factory, "heir")
    with pytest.raises(LeaseLost), factory.work() as work:  # noqa: PT012 - both belong to one transaction
        events.log(work, job.id, zombie.id, "I was here")
        steps.record_success(work, zombie.id, zombie.token, {})
    with factory.read() as work:
        assert "log" not in [event.type for event in events.after(work, job.id)]


def test_the_older_job_goes_first_and_later_stages_before_new_jobs(factory: Factory) -> None:
    old, new = make_job(factory, num_images=1), make_job(factory)
    head = must_claim(factory)
    assert (head.job_id, head.kind) == (old.id, "fit_head")
    succeed(factory, head)
    shard = must_claim(factory)
    assert (shard.job_id, shard.kind) == (old.id, "label_shard"), "made after the new job's first step, done before it"
    assert must_claim(factory, "b").job_id == new.id


def test_events_of_two_jobs_do_not_mix(factory: Factory) -> None:
    one, two = make_job(factory), make_job(factory)
    with factory.work() as work:
        events.log(work, one.id, None, "hello", level="warning")
        first = events.after(work, one.id)
        assert [event.type for event in first] == ["job.state", "log"]
        assert events.after(work, one.id, last_id=first[0].id) == first[1:]
        assert [event.type for event in events.after(work, two.id)] == ["job.state"]


def test_a_step_record_and_its_ring_are_one(factory: Factory) -> None:
    with pytest.raises(RuntimeError), factory.work() as work:  # noqa: PT012 - both belong to one transaction
        jobs.create(work, label_spec(work))
        raise RuntimeError("the request fails at its end")
    assert factory.doorbell.rung == []  # type: ignore[attr-defined]
    with factory.read() as work:
        assert jobs.list_page(work).items == []
