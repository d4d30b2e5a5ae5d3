"""Jobs: made from a typed spec, listed, cancelled, retried."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError

from service import deletion, events, generators, job_checks, job_inputs, leases, usage
from service.advance import advance, cancel_ready_steps, plan_facts
from service.clock import read_clock
from service.errors import Conflict, KeyReused
from service.ids import new_id
from service.job_spec import DistillSpec, ExportSpec, JobSpec, TrainGeneratorSpec, dump, parse
from service.lookup import find, is_deleted, must_find
from service.paging import Page, newest_first
from service.plan import ENDED, expected_steps
from service.tables import Dataset, Generator, Job, Report, Step, Student
from service.unit_of_work import Work

__all__ = [
    "CreatedJob",
    "advance",
    "cancel",
    "counts",
    "create",
    "delete",
    "get",
    "list_page",
    "made",
    "num_expected_steps",
    "retry",
]


RESULTS: dict[str, type[Any]] = {
    "generator_id": Generator,
    "dataset_id": Dataset,
    "student_id": Student,
    "report_id": Report,
}
"""What the ids of a job's result name."""


@dataclass(frozen=True)
class CreatedJob:
    """The answer to a request for a job."""

    job: Job
    """The job, new or found by its idempotency key."""
    created: bool
    """False when the same request had made it before."""


def create(work: Work, spec: JobSpec, *, idempotency_key: str | None = None) -> CreatedJob:
    """Make a job and its first steps.

    Raises Invalid with every bad reference, KeyReused, Conflict, QuotaExceeded, StorageQuotaExceeded.
    """
    body_sha256 = _body_digest(spec)
    if idempotency_key is not None and (known := _by_key(work, idempotency_key)) is not None:
        return _same_request(known, body_sha256)
    usage.require_free_slot(work, work.session.api_key_id)
    usage.require_room(work)
    checked = job_checks.check(work, spec)
    job_inputs.hold(work, checked.spec)
    job = Job(
        id=new_id("job"),
        kind=spec.kind,
        name=spec.name or checked.name,
        spec=dump(checked.spec),
        state="queued",
        cancel_requested=False,
        result={"dataset_id": spec.dataset_id} if isinstance(spec, DistillSpec | ExportSpec) else {},
        idempotency_key=idempotency_key,
        idempotency_body_sha256=body_sha256,
    )
    try:
        with work.session.begin_nested():
            work.session.add(job)
    except IntegrityError:  # the same key was committed between our look and our insert
        known = _by_key(work, idempotency_key or "")
        if known is None:
            raise
        return _same_request(known, body_sha256)
    if isinstance(spec, TrainGeneratorSpec):
        generator = generators.open_for_job(work, job, spec)
        job.result = {"generator_id": generator.id}
    events.job_state(work, job)
    advance(work, job.id)
    return CreatedJob(job, created=True)


def get(work: Work, job_id: str, *, deleted: bool = False) -> Job:
    """One job; `deleted` finds the row of a deleted one too. Raises NotFound, Gone."""
    return must_find(work, Job, job_id, "job", deleted=deleted)


def list_page(
    work: Work, *, state: str | None = None, kind: str | None = None, after: str | None = None, limit: int = 50
) -> Page[Job]:
    """Jobs, newest first."""
    query = select(Job).where(Job.deleted_at.is_(None))
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    return newest_first(work, query, Job.id, after=after, limit=limit)


def counts(work: Work) -> dict[str, int]:
    """Number of jobs in each state."""
    query = select(Job.state, func.count()).where(Job.deleted_at.is_(None)).group_by(Job.state)
    return dict(work.session.execute(query).tuples().all())


def made(work: Work, job: Job) -> dict[str, str]:
    """Ids of the job's result whose things are still there, by name: generator_id, dataset_id, student_id, report_id."""
    return {
        name: str(row_id)
        for name, row_id in job.result.items()
        if name in RESULTS and find(work, RESULTS[name], str(row_id)) is not None
    }


def num_expected_steps(work: Work, job: Job) -> int:
    """How many steps the job will have in the end."""
    spec = parse(job.spec)
    return expected_steps(spec, plan_facts(work, spec))


def cancel(work: Work, job_id: str) -> Job:
    """Cancel a job: waiting steps at once, running ones at their next look. Raises NotFound, Gone, Conflict if ended."""
    job = events.lock_job(work, job_id)
    if job.state == "cancelled" or job.cancel_requested:
        return job
    if job.state in ENDED:
        raise Conflict(f"The job {job_id} has already {job.state}; only a job that goes on can be cancelled.")
    job.cancel_requested = True
    job.state = "cancelling"
    work.session.flush()
    events.job_state(work, job)
    cancel_ready_steps(work, job_id)
    leases.end_silent_steps(work, job)
    advance(work, job_id)
    return job


def retry(work: Work, job_id: str) -> Job:
    """Take up a failed or cancelled job where it stopped: steps keep their checkpoints and have all their attempts again.

    So has a step that still runs: it would else fail the job once more of what was mended. The job stays its key's, and
    goes on beside that key's others. Raises NotFound, Conflict, QuotaExceeded.
    """
    job = events.lock_job(work, job_id)
    if job.state not in {"failed", "cancelled"}:
        raise Conflict(f"The job {job_id} is {job.state}; only a failed or cancelled job can be retried.")
    usage.require_free_slot(work, job.api_key_id)
    job_inputs.hold(work, parse(job.spec))
    job_inputs.require_products(work, job)
    change = (
        update(Step)
        .where(Step.job_id == job_id, Step.state.in_(["failed", "cancelled"]))
        .values(state="ready", attempt=0, lost=0, error=None, not_before=None, finished_at=None, progress=None)
        .returning(Step.queue)
    )
    running = update(Step).where(Step.job_id == job_id, Step.state == "running").values(attempt=1, lost=0)
    work.session.execute(running, execution_options={"synchronize_session": False})
    for queue in set(work.session.scalars(change, execution_options={"synchronize_session": False})):
        work.ring(queue)
    work.session.expire_all()
    job = events.lock_job(work, job_id)
    job.state, job.cancel_requested, job.error, job.finished_at = "running", False, None, None
    job.started_at = job.started_at or read_clock(work.session)
    if job.kind == "train_generator":
        generators.reopen_for_job(work, job_id)
    work.session.flush()
    events.job_state(work, job)
    advance(work, job_id)
    return job


def delete(work: Work, job_id: str) -> None:
    """Delete a job that has ended, with its log and its steps' files; what it made stays.

    Raises NotFound, Gone, Conflict while it goes on.
    """
    deletion.delete_job(work, job_id)


def _by_key(work: Work, key: str) -> Job | None:
    return work.session.scalars(select(Job).where(Job.idempotency_key == key)).one_or_none()


def _same_request(job: Job, body_sha256: str) -> CreatedJob:
    if job.idempotency_body_sha256 != body_sha256:
        raise KeyReused(f"This idempotency key made job {job.id} from another body; send a new key.")
    if is_deleted(job):
        raise KeyReused(f"This idempotency key made job {job.id}, which was deleted; send a new key.")
    return CreatedJob(job, created=False)


def _body_digest(spec: JobSpec) -> str:
    """Digest of what the request says beyond the defaults: the same wish spelled otherwise is the same wish.

    A default that is spelled out is left out too, and a release that knows more fields finds the same digest.
    """
    text = json.dumps(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
