"""Leases from the inside: proving one, closing one, and taking it from a silent worker.

The order of locks is always job, then step. Whoever holds a job's lock never waits for a step: a step that is locked
at that moment is being claimed, and `SKIP LOCKED` passes it by. All locks are `NO KEY UPDATE`, because an event's foreign
key locks its step and job too, and must not wait.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import ColumnElement, and_, not_, or_, select

from service import events, tallies
from service.advance import advance, cancel_ready_steps
from service.clock import database_now, read_clock
from service.errors import LeaseLost, NotFound
from service.plan import ENDED
from service.settings import Settings
from service.tables import Job, Step
from service.unit_of_work import Work

ACTIVE = ("queued", "running")
"""States of a job whose steps may be claimed and go on."""
LONGEST_LEASES = 10
"""So many leases from now no lease ends: room for workers whose settings have longer ones."""
LONGEST_PAUSE_SECONDS = 3_600.0
"""No failed step waits longer for its next attempt."""
MISSED_BEATS = 3
"""So many heartbeats that did not come mean that a worker is gone, where no more than a cancelled step is at stake."""
BATCH = 100


def is_overdue(settings: Settings) -> ColumnElement[bool]:
    """A lease that has run out, or that nobody can have given: the clock was set back since."""
    latest = database_now(LONGEST_LEASES * settings.lease_seconds)
    return or_(Step.lease_until < database_now(), Step.lease_until > latest)


def pause_seconds(settings: Settings, attempt: int) -> float:
    """How long a step waits after this attempt (from 1) failed: doubling, at most LONGEST_PAUSE_SECONDS."""
    return min(settings.retry_backoff_seconds * 2.0 ** (attempt - 1), LONGEST_PAUSE_SECONDS)


def is_due(settings: Settings) -> ColumnElement[bool]:
    """A step that may be claimed at once, also where its pause is one that nobody can have set: see `is_overdue`."""
    latest = database_now(pause_seconds(settings, settings.max_attempts))
    paused = and_(Step.not_before > database_now(), Step.not_before <= latest)
    return and_(Step.state == "ready", or_(Step.not_before.is_(None), not_(paused)))


def hold(work: Work, step_id: str, token: int) -> tuple[Step, Job]:
    """Lock job and step and prove that this token holds it. Raises NotFound, LeaseLost."""
    job_id = work.session.execute(select(Step.job_id).where(Step.id == step_id)).scalar_one_or_none()
    if job_id is None:
        raise NotFound(f"There is no step {step_id}.")
    job = events.lock_job(work, job_id)
    step = _lock_step(work, step_id)
    if step is None or step.token != token or step.state != "running":
        raise LeaseLost(f"Another worker holds the step {step_id} by now, or it has ended.")
    return step, job


def close(
    work: Work,
    step: Step,
    state: Literal["succeeded", "failed", "cancelled"],
    peak_memory_bytes: int | None = None,
) -> None:
    """End a held step and move its job on."""
    _end_attempt(work, step, state)
    step.finished_at = read_clock(work.session)
    if peak_memory_bytes is not None:
        step.peak_memory_bytes = max(step.peak_memory_bytes or 0, peak_memory_bytes)
    work.session.flush()
    tallies.step_ended(work, step)
    events.step_state(work, step)
    advance(work, step.job_id)


def give_back(work: Work, step: Step) -> None:
    """Make a held step ready again."""
    _end_attempt(work, step, "ready")
    step.owner = None
    work.session.flush()
    events.step_state(work, step)
    work.ring(step.queue)


def expire_leases(work: Work) -> int:
    """Take steps from workers that were silent for a whole lease; returns how many."""
    overdue = and_(Step.state == "running", is_overdue(work.settings))
    query = select(Step.id, Step.job_id).where(overdue).order_by(Step.lease_until).limit(BATCH)
    taken = 0
    for step_id, job_id in work.session.execute(query).all():
        # Never wait for a second job's lock while holding a first: two reapers could wait for each other.
        job = events.try_lock_job(work, job_id)
        step = _lock_step(work, step_id, overdue) if job is not None else None
        if job is None or step is None:
            continue
        _expire(work, step, job)
        taken += 1
    return taken


def end_silent_steps(work: Work, job: Job) -> int:
    """End steps of a job that is being cancelled whose workers missed their beats; the caller holds the job's lock.

    Nobody wants their results, so nobody waits for their leases: a worker that was only slow finds its step lost.
    """
    patience = work.settings.lease_seconds - MISSED_BEATS * work.settings.heartbeat_seconds
    silent = (Step.job_id == job.id, Step.state == "running", Step.lease_until < database_now(patience))
    ended = 0
    for step_id in work.session.scalars(select(Step.id).where(*silent)).all():
        step = _lock_step(work, step_id)
        if step is not None and step.state == "running":
            _count_lost(work, step)
            close(work, step, "cancelled")
            ended += 1
    return ended


def sweep_stopped_jobs(work: Work) -> int:
    """Finish what dead workers and transactions left of stopped jobs. Returns how many jobs changed."""
    left_over = and_(Job.state.in_(ENDED), Step.state == "ready")
    query = select(Job.id).join(Step, Step.job_id == Job.id).where(or_(Job.state == "cancelling", left_over))
    changed = 0
    for job_id in work.session.scalars(query.distinct().limit(BATCH)).all():
        job = events.try_lock_job(work, job_id)
        if job is None:
            continue
        changed += bool(cancel_ready_steps(work, job_id) + end_silent_steps(work, job))
        advance(work, job_id)
    return changed


def _expire(work: Work, step: Step, job: Job) -> None:
    _count_lost(work, step)
    if job.state not in ACTIVE:
        close(work, step, "cancelled")
    elif step.attempt >= work.settings.max_attempts:
        step.error = _lost_problem(step)
        close(work, step, "failed")
    else:
        give_back(work, step)


def _count_lost(work: Work, step: Step) -> None:
    step.lost += 1
    work.note("the worker of a step was lost", job_id=step.job_id, step_id=step.id, kind=step.kind, owner=step.owner)


def _lost_problem(step: Step) -> dict[str, object]:
    if step.lost >= step.attempt:
        detail = f"the worker was lost {step.lost} times while running this step"
    else:
        detail = f"all {step.attempt} attempts are used up; the worker was lost {step.lost} times"
    return {"type": tallies.WORKER_LOST, "title": "The worker was lost", "status": 500, "detail": detail}


def _end_attempt(work: Work, step: Step, state: str) -> None:
    if step.started_at is not None:
        step.seconds = (step.seconds or 0.0) + (read_clock(work.session) - step.started_at).total_seconds()
    step.state = state
    step.lease_until = None


def _lock_step(work: Work, step_id: str, *conditions: ColumnElement[bool]) -> Step | None:
    """Lock a step, if nobody else does and if the conditions still hold."""
    query = select(Step).where(Step.id == step_id, *conditions).with_for_update(skip_locked=True, key_share=True)
    return work.session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
