"""Leases from the inside: proving one, closing one, and taking it from a silent worker.

The order of locks is always job, then step. Whoever holds a job's lock never waits for a step: a step that is locked
at that moment is being claimed, and `SKIP LOCKED` passes it by. All locks are `NO KEY UPDATE`, because an event's foreign
key locks its step and job too, and must not wait.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import and_, or_, select

from service import events, tallies
from service.advance import advance, cancel_ready_steps
from service.clock import database_now, read_clock
from service.errors import LeaseLost, NotFound
from service.plan import ENDED
from service.tables import Job, Step
from service.unit_of_work import Work

ACTIVE = ("queued", "running")
"""States of a job whose steps may be claimed and go on."""
BATCH = 100


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
    overdue = and_(Step.state == "running", Step.lease_until < database_now())
    query = select(Step.id, Step.job_id).where(overdue).order_by(Step.lease_until).limit(BATCH)
    taken = 0
    for step_id, job_id in work.session.execute(query).all():
        # Never wait for a second job's lock while holding a first: two reapers could wait for each other.
        job = events.try_lock_job(work, job_id)
        step = _lock_step(work, step_id) if job is not None else None
        if job is None or step is None or not _is_overdue(work, step):
            continue
        _expire(work, step, job)
        taken += 1
    return taken


def sweep_stopped_jobs(work: Work) -> int:
    """Finish what a dead transaction left behind: waiting steps of stopped jobs. Returns how many jobs changed."""
    left_over = and_(Job.state.in_(ENDED), Step.state == "ready")
    query = select(Job.id).join(Step, Step.job_id == Job.id).where(or_(Job.state == "cancelling", left_over))
    changed = 0
    for job_id in work.session.scalars(query.distinct().limit(BATCH)).all():
        job = events.try_lock_job(work, job_id)
        if job is None:
            continue
        changed += bool(cancel_ready_steps(work, job_id))
        advance(work, job_id)
    return changed


def _expire(work: Work, step: Step, job: Job) -> None:
    step.lost += 1
    work.note("the worker of a step was lost", job_id=job.id, step_id=step.id, kind=step.kind, owner=step.owner)
    if job.state not in ACTIVE:
        close(work, step, "cancelled")
    elif step.attempt >= work.settings.max_attempts:
        step.error = _lost_problem(step)
        close(work, step, "failed")
    else:
        give_back(work, step)


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


def _lock_step(work: Work, step_id: str) -> Step | None:
    query = select(Step).where(Step.id == step_id).with_for_update(skip_locked=True, key_share=True)
    return work.session.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def _is_overdue(work: Work, step: Step) -> bool:
    now = read_clock(work.session)
    return step.state == "running" and step.lease_until is not None and step.lease_until < now
