"""What happened in a job: an ordered log that streams to whoever watches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import func, select

from service.clock import read_clock
from service.errors import NotFound
from service.lookup import is_id, require_present
from service.plan import ENDED
from service.tables import Event, Job, Step
from service.unit_of_work import Work

EventType = Literal["job.state", "step.state", "step.progress", "sample", "log"]
LogLevel = Literal["debug", "info", "warning", "error"]
BATCH = 500
PROGRESS_HISTORY = 500
"""Points that a curve over a step's whole time has at least, once it has lasted for so many progress events."""


@dataclass(frozen=True)
class Newest:
    """How far a job's log goes."""

    event_id: int
    """Id of the newest event; 0 before the first."""
    ended: bool
    """The job has ended or is no more: at most events that are already there will be read."""


def lock_job(work: Work, job_id: str, *, deleted: bool = False) -> Job:
    """Lock a job's row until the commit and read it afresh. Raises NotFound, Gone unless `deleted` jobs are asked for too.

    Everything that changes a job, its steps or its events takes this lock first: so ids of events grow in the order
    of commits, two last siblings cannot miss each other, and no two transactions wait for each other in a circle.
    """
    if not is_id(job_id):
        raise NotFound(f"There is no job {job_id[:60]}.")
    # NO KEY UPDATE on PostgreSQL: rows that only refer to the job need not wait.
    query = select(Job).where(Job.id == job_id).with_for_update(key_share=True)
    job = work.session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    if not deleted:
        require_present(job, "job")
    return job


def try_lock_job(work: Work, job_id: str) -> Job | None:
    """Like `lock_job`, but None at once when another transaction holds the lock."""
    query = select(Job).where(Job.id == job_id).with_for_update(key_share=True, skip_locked=True)
    return work.session.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def append(work: Work, job_id: str, step_id: str | None, event_type: EventType, data: Mapping[str, Any]) -> None:
    """Append one event; the caller holds the job's lock."""
    # The database's clock, so that throttling compares like with like.
    now = read_clock(work.session)
    work.session.add(Event(job_id=job_id, step_id=step_id, type=event_type, data=dict(data), created_at=now))
    work.session.flush()


def job_state(work: Work, job: Job) -> None:
    """Record the state a job has now."""
    work.note("job state", job_id=job.id, kind=job.kind, state=job.state)
    append(work, job.id, None, "job.state", {"state": job.state, "error": job.error, "result": job.result})


def step_state(work: Work, step: Step) -> None:
    """Record the state a step has now."""
    data = {"state": step.state, "kind": step.kind, "index": step.index, "attempt": step.attempt, "error": step.error}
    append(work, step.job_id, step.id, "step.state", data)


def step_progress(work: Work, step: Step, progress: Mapping[str, Any]) -> bool:
    """Record progress unless the step's last progress event is too young; tells whether it did.

    What a week reports must not fill the log: the last event gives way to the new one when it is nearer to the one before
    it than a `PROGRESS_HISTORY`th of the step's age, so that what stays grows with the logarithm of time.
    """
    query = select(Event).where(Event.step_id == step.id, Event.type == "step.progress").order_by(Event.id.desc())
    newest = list(work.session.scalars(query.limit(2)))
    now = read_clock(work.session)
    if newest and now - newest[0].created_at < timedelta(seconds=work.settings.progress_event_seconds):
        return False
    if len(newest) == 2 and step.started_at is not None:
        last, before = newest
        if last.created_at - before.created_at < (now - step.started_at) / PROGRESS_HISTORY:
            work.session.delete(last)
    append(work, step.job_id, step.id, "step.progress", {"kind": step.kind, "index": step.index, **progress})
    return True


def sample(work: Work, job_id: str, step_id: str, key: str, **data: Any) -> None:
    """Record that a picture (a PNG under `key`) is there to be looked at."""
    lock_job(work, job_id)
    append(work, job_id, step_id, "sample", {"key": key, **data})


def log(work: Work, job_id: str, step_id: str | None, message: str, *, level: LogLevel = "info", **data: Any) -> None:
    """Record one line for the job's log."""
    lock_job(work, job_id)
    append(work, job_id, step_id, "log", {"level": level, "message": message[:4_000], **data})


def after(work: Work, job_id: str, last_id: int = 0, limit: int = 200) -> list[Event]:
    """Events of a job that came after `last_id`, oldest first; none for an unknown job."""
    if not 0 <= last_id < 2**63 or not is_id(job_id):
        return []
    query = select(Event).where(Event.job_id == job_id, Event.id > last_id).order_by(Event.id).limit(limit)
    return list(work.session.scalars(query))


def newest_of(work: Work, job_ids: Sequence[str]) -> dict[str, Newest]:
    """How far each of these jobs' logs goes: one short query, however long the logs are."""
    found = {job_id: Newest(0, ended=True) for job_id in job_ids}
    last = select(func.max(Event.id)).where(Event.job_id == Job.id).scalar_subquery()
    for start in range(0, len(job_ids), BATCH):
        query = select(Job.id, Job.state, last).where(Job.id.in_(job_ids[start : start + BATCH]))
        for job_id, state, event_id in work.session.execute(query):
            found[job_id] = Newest(event_id or 0, ended=state in ENDED)
    return found


def samples(work: Work, job_id: str, *, limit: int = 100) -> list[Event]:
    """The newest sample events of a job, newest first."""
    query = select(Event).where(Event.job_id == job_id, Event.type == "sample").order_by(Event.id.desc()).limit(limit)
    return list(work.session.scalars(query))


def newest(work: Work, job_id: str, *, types: Sequence[EventType] = (), limit: int = 100) -> list[Event]:
    """The newest events of a job, newest first; of these types, or of all."""
    query = select(Event).where(Event.job_id == job_id)
    if types:
        query = query.where(Event.type.in_(types))
    return list(work.session.scalars(query.order_by(Event.id.desc()).limit(limit)))


def progress(work: Work, job_id: str, *, kinds: Sequence[str], limit: int = 1_500) -> list[Event]:
    """Progress events of the job's steps of these kinds, oldest first, thinned evenly to about `limit`."""
    wanted = (
        select(Event.id, func.row_number().over(order_by=Event.id).label("place"), func.count().over().label("all"))
        .join(Step, Step.id == Event.step_id)
        .where(Event.job_id == job_id, Event.type == "step.progress", Step.kind.in_(kinds))
        .subquery()
    )
    last = wanted.c.place == wanted.c.all
    kept = select(wanted.c.id).where(last | (wanted.c.place % (wanted.c.all / limit + 1) == 0))
    return list(work.session.scalars(select(Event).where(Event.id.in_(kept)).order_by(Event.id)))


def get(work: Work, event_id: int) -> Event:
    """One event, for instance to serve the picture of a sample. Raises NotFound."""
    event = work.session.get(Event, event_id) if 0 < event_id < 2**63 else None
    if event is None:
        raise NotFound(f"There is no event {event_id}.")
    return event
