"""The protocol between the database and a worker: claim under a lease, beat, record once.

Every change of a claimed step proves token and state under the job's lock; a worker that lost its step gets LeaseLost
and its whole transaction, with whatever rows it wrote, is rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import Select, and_, case, func, or_, select, update

from service import events, tallies
from service.clock import database_now, read_clock
from service.errors import BadRequest, LeaseLost, NotFound
from service.job_spec import JobSpec, parse
from service.leases import (
    ACTIVE,
    close,
    expire_leases,
    give_back,
    hold,
    is_due,
    is_overdue,
    pause_seconds,
    sweep_stopped_jobs,
)
from service.lookup import must_find
from service.paging import Page
from service.settings import Settings
from service.tables import Job, Step
from service.unit_of_work import Work


@dataclass(frozen=True)
class Progress:
    """How far a step is; a durable snapshot."""

    done: int
    """Units done."""
    total: int | None = None
    """Units in all; empty if nobody knows."""
    unit: str = "steps"
    """What is counted: `images`, `steps`, `epochs`."""
    rate: float | None = None
    """Units per second."""
    eta_seconds: float | None = None
    """Seconds that are left."""
    message: str | None = None
    """What it is doing, for people."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Latest numbers, such as the loss."""


@dataclass(frozen=True)
class ClaimedStep:
    """A step that this worker holds, with all that its handler needs."""

    id: str
    """The step."""
    job_id: str
    """Its job."""
    kind: str
    """Which handler runs it."""
    index: int
    """Which of its kind."""
    queue: str
    """The queue it was taken from."""
    attempt: int
    """1 for the first."""
    token: int
    """Proves that this worker holds the step; part of every object key it writes."""
    params: Mapping[str, Any]
    """What the plan put there, such as the range of a shard."""
    spec_document: Mapping[str, Any]
    """What the user asked for, as it is stored."""
    job_result: Mapping[str, str]
    """Ids the job has made so far: generator_id, dataset_id, student_id."""
    checkpoint_key: str | None
    """Object to resume from."""
    lease_until: datetime
    """When the step is lost without a heartbeat, on the database's clock."""

    @cached_property
    def spec(self) -> JobSpec:
        """What the user asked for. Raises UnreadableSpec, which fails the step that needs it and not the claim."""
        return parse(self.spec_document)


@dataclass(frozen=True)
class Heartbeat:
    """The database's answer to a heartbeat."""

    alive: bool
    """False: the step belongs to somebody else now; stop and record nothing."""
    cancel_requested: bool
    """True: stop at the next batch and record the step as cancelled."""


def claim(work: Work, *, queues: Sequence[str], owner: str, lease_seconds: float | None = None) -> ClaimedStep | None:
    """Take the most urgent step of these queues, waiting or lost by a silent worker; None if there is none."""
    lease = lease_seconds or work.settings.lease_seconds
    taken = (
        update(Step)
        .where(Step.id == _most_urgent(queues, work.settings).scalar_subquery())
        .values(
            state="running",
            token=Step.token + 1,
            attempt=Step.attempt + 1,
            lost=Step.lost + case((Step.state == "running", 1), else_=0),
            owner=owner,
            lease_until=database_now(lease),
            started_at=database_now(),
            not_before=None,
        )
        .returning(Step)
    )
    options = {"synchronize_session": False, "populate_existing": True}
    step = work.session.scalars(taken, execution_options=options).one_or_none()
    if step is None:
        expire_leases(work)  # steps whose attempts are used up end even where nobody else reaps
        return None
    return _begin(work, step)


def _most_urgent(queues: Sequence[str], settings: Settings) -> Select[str]:
    lost = and_(Step.state == "running", is_overdue(settings), Step.attempt < settings.max_attempts)
    return (
        select(Step.id)
        .join(Job, Job.id == Step.job_id)
        .where(or_(is_due(settings), lost), Step.queue.in_(list(queues)), Job.state.in_(ACTIVE))
        .order_by(Step.priority.desc(), Step.created_at, Step.kind, Step.index)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True, of=Step)
    )


def _begin(work: Work, step: Step) -> ClaimedStep:
    job = events.lock_job(work, step.job_id)
    if job.state == "queued":
        job.state, job.started_at = "running", step.started_at
        work.session.flush()
        events.job_state(work, job)
    events.step_state(work, step)
    assert step.lease_until is not None
    return ClaimedStep(
        id=step.id,
        job_id=step.job_id,
        kind=step.kind,
        index=step.index,
        queue=step.queue,
        attempt=step.attempt,
        token=step.token,
        params=step.params,
        spec_document=job.spec,
        job_result=job.result,
        checkpoint_key=step.checkpoint_key,
        lease_until=step.lease_until,
    )


def heartbeat(
    work: Work, step_id: str, token: int, *, lease_seconds: float | None = None, progress: Progress | None = None
) -> Heartbeat:
    """Renew the lease, keep the progress, and learn whether to go on."""
    try:
        step, job = hold(work, step_id, token)
    except (LeaseLost, NotFound):
        return Heartbeat(alive=False, cancel_requested=False)
    lease = lease_seconds or work.settings.lease_seconds
    step.lease_until = read_clock(work.session) + timedelta(seconds=lease)
    if progress is not None:
        snapshot = asdict(progress)
        if snapshot != step.progress:
            step.progress = snapshot
            events.step_progress(work, step, snapshot)
    return Heartbeat(alive=True, cancel_requested=job.state not in ACTIVE)


def is_stopping(work: Work, job_id: str) -> bool:
    """Whether the job is cancelled or has ended, so that its running steps stop; a read alone."""
    return work.session.scalar(select(Job.state).where(Job.id == job_id)) not in ACTIVE


def save_checkpoint(work: Work, step_id: str, token: int, key: str) -> str | None:
    """Remember where the step can resume; returns the former key, whose object may be deleted. Raises LeaseLost."""
    step, _ = hold(work, step_id, token)
    former, step.checkpoint_key = step.checkpoint_key, key
    return former if former != key else None


def record_success(
    work: Work, step_id: str, token: int, output: Mapping[str, Any], *, peak_memory_bytes: int | None = None
) -> None:
    """Record the step's output and move the job on. Raises LeaseLost."""
    step, _ = hold(work, step_id, token)
    step.output = dict(output)
    step.error = None
    close(work, step, "succeeded", peak_memory_bytes)


def record_failure(
    work: Work,
    step_id: str,
    token: int,
    error: Mapping[str, Any],
    *,
    retryable: bool = False,
    peak_memory_bytes: int | None = None,
) -> None:
    """Record a problem document; a retryable one is tried again later while attempts remain. Raises LeaseLost."""
    step, job = hold(work, step_id, token)
    step.error = dict(error)
    tallies.attempt_failed(work, step.kind, str(error.get("type", "internal")))
    if retryable and job.state in ACTIVE and step.attempt < work.settings.max_attempts:
        pause = pause_seconds(work.settings, step.attempt)
        step.not_before = read_clock(work.session) + timedelta(seconds=pause)
        give_back(work, step)
        return
    close(work, step, "cancelled" if job.state == "cancelling" else "failed", peak_memory_bytes)


def record_cancelled(work: Work, step_id: str, token: int) -> None:
    """Record that the worker stopped because the job is cancelled or has failed elsewhere. Raises LeaseLost."""
    step, job = hold(work, step_id, token)
    if job.state in ACTIVE:  # the job was retried while the worker was stopping: the step is wanted again
        give_back(work, step)
        return
    close(work, step, "cancelled", None)


def release(work: Work, step_id: str, token: int) -> None:
    """Give the step back on an orderly shutdown; the attempt does not count. Raises LeaseLost."""
    step, job = hold(work, step_id, token)
    if job.state not in ACTIVE:
        close(work, step, "cancelled", None)
        return
    step.attempt -= 1
    give_back(work, step)


def reap(work: Work) -> int:
    """Give back steps of silent workers and ring for all that wait; returns how many steps changed. Run often."""
    changed = expire_leases(work) + sweep_stopped_jobs(work)
    for queue in work.session.scalars(select(Step.queue).where(is_due(work.settings)).distinct()):
        work.ring(queue)
    return changed


def running_tokens(work: Work, step_ids: Sequence[str]) -> dict[str, int]:
    """Tokens of those of these steps (some hundreds at most) that run, by id; a lease that ran out may come back."""
    query = select(Step.id, Step.token).where(Step.id.in_(step_ids), Step.state == "running")
    return {row.id: row.token for row in work.session.execute(query)}


def outputs(work: Work, job_id: str, kind: str) -> list[dict[str, Any]]:
    """Outputs of the job's succeeded steps of one kind, by index."""
    query = select(Step.output).where(Step.job_id == job_id, Step.kind == kind, Step.state == "succeeded")
    return [output or {} for output in work.session.scalars(query.order_by(Step.index))]


def get(work: Work, step_id: str) -> Step:
    """One step. Raises NotFound."""
    return must_find(work, Step, step_id, "step")


def list_of_job(work: Work, job_id: str) -> list[Step]:
    """All steps of a job in the order they were made."""
    query = select(Step).where(Step.job_id == job_id).order_by(Step.created_at, Step.kind, Step.index)
    return list(work.session.scalars(query))


def list_page(work: Work, job_id: str, *, after: str | None = None, limit: int = 50) -> Page[Step]:
    """Steps of a job in the order they were made. Raises BadRequest."""
    # Steps are only ever appended in this order, so a plain count of those seen is a safe place to go on.
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise BadRequest("The cursor is not one of this list.")
    start = int(after or 0)
    query = select(Step).where(Step.job_id == job_id).order_by(Step.created_at, Step.kind, Step.index)
    rows = list(work.session.scalars(query.offset(start).limit(limit + 1)))
    return Page(rows[:limit], str(start + limit) if len(rows) > limit else None)


def counts(work: Work) -> dict[tuple[str, str], int]:
    """Number of steps that wait or run, by (queue, state)."""
    query = select(Step.queue, Step.state, func.count()).where(Step.state.in_(["ready", "running"]))
    query = query.group_by(Step.queue, Step.state)
    return {(queue, state): number for queue, state, number in work.session.execute(query)}
