"""Moves a job on: the one place where steps are made and jobs end."""

from __future__ import annotations

from sqlalchemy import select, update

from service import announcements, datasets, events, generators, plan
from service.clock import read_clock
from service.ids import new_id
from service.job_spec import JobSpec, LabelSpec, TrainGeneratorSpec, parse
from service.plan import ENDED
from service.tables import ImagePool, Job, Step
from service.unit_of_work import Work


def advance(work: Work, job_id: str) -> None:
    """Make the job's next steps or end it; idempotent, part of the transaction that finished a step. Raises UnreadableSpec."""
    job = events.lock_job(work, job_id)
    if job.state in ENDED:
        return
    # The lock makes this read see every sibling that ended before us, so exactly one transaction is the last.
    # Which states there are of each kind is all the plan asks: a job of thousands of shards sends no thousands of rows.
    rows = work.session.execute(select(Step.kind, Step.state).where(Step.job_id == job_id).distinct()).all()
    steps = [plan.StepView(*row) for row in rows]
    stopping = job.cancel_requested or any(step.state == "failed" for step in steps)
    if stopping:
        # Without a look at the spec: a job that only another release can read is stopped by any.
        if cancel_ready_steps(work, job_id):
            advance(work, job_id)
        elif outcome := plan.stopped_outcome(steps, cancelling=job.cancel_requested):
            _end(work, job, outcome)
        return
    spec = parse(job.spec)
    if plan.is_complete(spec, steps):
        _end(work, job, "succeeded")
    else:
        _make_steps(work, job, plan.next_steps(spec, steps, plan_facts(work, spec)))


def plan_facts(work: Work, spec: JobSpec) -> plan.PlanFacts:
    """What the plan must know besides the spec."""
    num_images = 0
    if isinstance(spec, LabelSpec | TrainGeneratorSpec) and spec.image_pool_id is not None:
        query = select(ImagePool.num_images).where(ImagePool.id == spec.image_pool_id)
        num_images = work.session.execute(query).scalar_one_or_none() or 0
    return plan.PlanFacts(shard_size=work.settings.shard_size, num_pool_images=num_images)


def cancel_ready_steps(work: Work, job_id: str) -> int:
    """Cancel the job's steps that nobody runs; the caller holds the job's lock.

    A step that a worker is claiming at this moment is skipped; the worker's first heartbeat tells it to stop.
    """
    query = (
        select(Step.id)
        .where(Step.job_id == job_id, Step.state == "ready")
        .with_for_update(skip_locked=True, key_share=True)
    )
    ids = list(work.session.scalars(query))
    now = read_clock(work.session)
    values = {"state": "cancelled", "finished_at": now}
    for start in range(0, len(ids), 500):
        change = update(Step).where(Step.id.in_(ids[start : start + 500])).values(values)
        work.session.execute(change, execution_options={"synchronize_session": False})
    for step in work.session.scalars(
        select(Step).where(Step.id.in_(ids[:50])).execution_options(populate_existing=True)
    ):
        # A few events tell the story; a job with thousands of shards needs no thousands of them.
        events.step_state(work, step)
    return len(ids)


def _make_steps(work: Work, job: Job, new: list[plan.NewStep]) -> None:
    if any(step.kind == "label_shard" for step in new):
        datasets.open_for_job(work, job)
    now = read_clock(work.session)
    for step in new:
        row = Step(
            id=new_id("step"),
            job_id=job.id,
            kind=step.kind,
            index=step.index,
            queue=step.queue,
            state="ready",
            params=step.params,
            priority=step.priority,
            created_at=now,
        )
        work.session.add(row)
        work.ring(step.queue)
    work.session.flush()


def _end(work: Work, job: Job, outcome: plan.Outcome) -> None:
    job.state = outcome
    job.finished_at = read_clock(work.session)
    if outcome == "failed":
        failed = select(Step).where(Step.job_id == job.id, Step.state == "failed").order_by(Step.finished_at).limit(1)
        step = work.session.scalars(failed, execution_options={"populate_existing": True}).one()
        job.error = {**(step.error or {}), "step_id": step.id, "step_kind": step.kind, "step_index": step.index}
    if outcome != "succeeded":
        generators.mark_failed(work, job.id)
    work.session.flush()
    events.job_state(work, job)
    announcements.job_ended(work, job)
