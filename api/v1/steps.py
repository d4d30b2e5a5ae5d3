"""Steps: the leased units of work of a job, with progress, attempts and cost."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from api.dependencies import IdPath, ReadDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.v1.answer import Answer
from service import jobs, steps

router = APIRouter(prefix="/v1", tags=["jobs"])


class StepAnswer(Answer):
    """One step; `progress` is its last durable snapshot."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "step_01kaxvb2c4d6e8f0g2h4j6k8m0",
                "job_id": "job_01kaxv8e3f5g7h9j1k3m5n7p9q",
                "kind": "label_shard",
                "index": 3,
                "queue": "gpu",
                "state": "running",
                "attempt": 1,
                "owner": "machine-1:4242",
                "progress": {"done": 96, "total": 256, "unit": "images", "rate": 21.5, "eta_seconds": 7.4},
                "output": None,
                "error": None,
                "seconds": None,
                "peak_memory_bytes": None,
                "created_at": "2026-11-23T17:41:00Z",
                "started_at": "2026-11-23T17:41:02Z",
                "finished_at": None,
            }
        }
    )

    id: str
    job_id: str
    kind: str
    index: int
    queue: Literal["gpu", "cpu"]
    state: Literal["ready", "running", "succeeded", "failed", "cancelled"]
    attempt: int
    owner: str | None = Field(description="The worker that holds or held it")
    progress: dict[str, Any] | None = Field(
        description="done, total, unit, rate (units per second), eta_seconds, message, metrics"
    )
    output: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="Problem document")
    seconds: float | None = Field(description="Of all attempts together")
    peak_memory_bytes: int | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@router.get(
    "/jobs/{job_id}/steps",
    operation_id="list_job_steps",
    summary="List a job's steps",
    responses=problems(400, 404, 422),
)
def list_job_steps(work: ReadDep, job_id: IdPath, paging: PagingDep) -> Page[StepAnswer]:
    """In the order they were made; later steps appear as their time comes."""
    rows = steps.list_page(work, jobs.get(work, job_id).id, after=paging.after, limit=paging.limit)
    return Page[StepAnswer].of(rows, rows.items)


@router.get("/steps/{step_id}", operation_id="get_step", summary="Show a step", responses=problems(404, 422))
def get_step(work: ReadDep, step_id: IdPath) -> StepAnswer:
    """Progress, attempts, output and error."""
    row = steps.get(work, step_id)
    jobs.get(work, row.job_id)
    return StepAnswer.model_validate(row)
