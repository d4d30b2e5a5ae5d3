"""Many jobs in the table, as months of use leave them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from service.bootstrap import Factory
from service.clock import utc_now
from service.ids import new_id
from service.tables import Job

STATES = ("succeeded",) * 17 + ("failed", "cancelled", "running")
KINDS = ("label", "label", "distill", "evaluate", "export")
BATCH = 1_000


def store_jobs(factory: Factory, count: int) -> None:
    """Write so many jobs of all kinds, most of which have ended well."""
    for start in range(0, count, BATCH):
        with factory.work() as work:
            work.session.add_all(_job(number) for number in range(start, min(start + BATCH, count)))


def store_running_jobs(factory: Factory, count: int) -> None:
    """Write so many jobs that go on, for whoever wants to follow them."""
    with factory.work() as work:
        work.session.add_all(running_job() for _ in range(count))


def running_job() -> Job:
    """One that goes on."""
    return _job(STATES.index("running"))


def job_pages(limit: int) -> Iterator[str]:
    """The lists of jobs that a user asks for, each from its first page."""
    yield f"/v1/jobs?limit={limit}"
    for state in sorted(set(STATES)):
        yield f"/v1/jobs?limit={limit}&state={state}"
    for kind in sorted(set(KINDS)):
        yield f"/v1/jobs?limit={limit}&kind={kind}"


def _job(number: int) -> Job:
    state, kind = STATES[number % len(STATES)], KINDS[number % len(KINDS)]
    now = utc_now()
    failed = {"title": "Out of memory", "status": 500, "detail": "The device's memory is full.", "type": "about:blank"}
    return Job(
        id=new_id("job"),
        kind=kind,
        name=f"{kind} number {number}",
        spec=_spec(kind),
        state=state,
        cancel_requested=state == "cancelled",
        error=failed if state == "failed" else None,
        result={"dataset_id": new_id("ds"), "student_id": new_id("stu")} if state == "succeeded" else {},
        created_at=now,
        started_at=now + timedelta(seconds=1),
        finished_at=None if state == "running" else now + timedelta(minutes=20),
    )


def _spec(kind: str) -> dict[str, Any]:
    """As large as a real one."""
    head = {"steps": 450, "batch_size": 16, "tap_timestep": 50, "members": 5, "learning_rate": 0.001, "kind": "fusion"}
    student = {"architecture": "segformer_b0", "temperature": 4.0, "steps": 3_000, "batch_size": 16, "mode": "label"}
    return {
        "kind": kind,
        "annotation_set_id": new_id("ann"),
        "evaluation_set_id": new_id("ann"),
        "generator": new_id("gen"),
        "num_images": 2_000,
        "pools": ["synthesized", "encoded"],
        "head": head,
        "student": student,
        "filter": {"drop_share": 0.1},
    }
