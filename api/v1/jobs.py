"""Jobs: asked for, watched, cancelled, retried."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Query, Response, status
from pydantic import ConfigDict, Field

from api.dependencies import FactoryDep, IdPath, ReadDep, WorkDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.v1.answer import Answer
from service import jobs
from service.job_spec import JobSpec

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], route_class=StrictRoute)

JobState = Literal["queued", "running", "cancelling", "cancelled", "succeeded", "failed"]
JobKind = Literal["label", "train_generator", "train_student", "distill", "evaluate", "export"]

SPEC_EXAMPLES: dict[str, Any] = {
    "label": {
        "summary": "From a few labels to a dataset and a student",
        "value": {
            "kind": "label",
            "annotation_set_id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
            "evaluation_set_id": "ann_01kaxv6b2c4d6e8f0g2h4j6k8m",
            "generator": "portraits",
            "num_images": 2000,
        },
    },
    "dataset_only": {
        "summary": "Stop at the dataset; encode real images as well",
        "value": {
            "kind": "label",
            "annotation_set_id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
            "generator": "portraits",
            "image_pool_id": "pool_01kaxv7n5p7q9r1s3t5v7w9x1y",
            "pools": ["synthesized", "encoded"],
            "stop_after": "dataset",
        },
    },
    "with_encoder": {
        "summary": "Label real images by the generator's features and a frozen encoder's together",
        "value": {
            "kind": "label",
            "annotation_set_id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
            "evaluation_set_id": "ann_01kaxv6b2c4d6e8f0g2h4j6k8m",
            "image_pool_id": "pool_01kaxv7n5p7q9r1s3t5v7w9x1y",
            "pools": ["encoded"],
            "generator": "portraits",
            "encoder": "imagenet",
        },
    },
    "without_generator": {
        "summary": "Self-training: students on the few labels label the pool",
        "value": {
            "kind": "label",
            "annotation_set_id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
            "image_pool_id": "pool_01kaxv7n5p7q9r1s3t5v7w9x1y",
            "pools": ["encoded"],
            "head": {"kind": "student"},
        },
    },
    "train_generator": {
        "summary": "Train a generator on a sealed pool",
        "value": {
            "kind": "train_generator",
            "image_pool_id": "pool_01kaxv7n5p7q9r1s3t5v7w9x1y",
            "name": "portraits",
            "minutes": 25.0,
        },
    },
    "distill": {
        "summary": "Another student from a sealed dataset",
        "value": {
            "kind": "distill",
            "dataset_id": "ds_01kaxv9k7m9n1p3q5r7s9t1v3w",
            "evaluation_set_id": "ann_01kaxv6b2c4d6e8f0g2h4j6k8m",
            "pools": ["encoded"],
            "student": {"architecture": "segformer_b0", "temperature": 4.0},
        },
    },
    "evaluate": {
        "summary": "Measure a student, or the head that labelled a dataset, on other held-out images",
        "value": {
            "kind": "evaluate",
            "student_id": "stu_01kaxvd3f5g7h9j1k3m5n7p9q1",
            "evaluation_set_id": "ann_01kaxv6b2c4d6e8f0g2h4j6k8m",
        },
    },
    "export": {
        "summary": "Make the COCO zip of a dataset again, once it has expired",
        "value": {"kind": "export", "dataset_id": "ds_01kaxv9k7m9n1p3q5r7s9t1v3w"},
    },
    "train_student": {
        "summary": "Train a student on the few labels alone",
        "value": {
            "kind": "train_student",
            "annotation_set_id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
            "evaluation_set_id": "ann_01kaxv6b2c4d6e8f0g2h4j6k8m",
        },
    },
}


class JobAnswer(Answer):
    """A job: the typed spec, its state and the ids of what it made so far."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "job_01kaxv8e3f5g7h9j1k3m5n7p9q",
                "kind": "label",
                "name": "label with portraits",
                "spec": {"kind": "label", "generator": "gen_01kaxv5t8q3m6n9p2r4s7t0v1w", "num_images": 2000},
                "state": "running",
                "cancel_requested": False,
                "error": None,
                "result": {"dataset_id": "ds_01kaxv9k7m9n1p3q5r7s9t1v3w"},
                "created_at": "2026-11-23T17:40:00Z",
                "started_at": "2026-11-23T17:40:01Z",
                "finished_at": None,
            }
        }
    )

    id: str
    kind: JobKind
    name: str
    spec: dict[str, Any] = Field(description="What was asked, defaults filled in")
    state: JobState
    cancel_requested: bool
    error: dict[str, Any] | None = Field(description="Problem document of the step that failed")
    result: dict[str, Any] = Field(description="Ids made so far: generator_id, dataset_id, student_id, report_id")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@router.post(
    "",
    operation_id="create_job",
    summary="Ask for a job",
    status_code=status.HTTP_202_ACCEPTED,
    responses={
        202: {"headers": {"Location": {"description": "The job's address", "schema": {"type": "string"}}}},
        **problems(400, 409, 413, 415, 422, 429, 507),
    },
)
def create_job(
    work: WorkDep,
    response: Response,
    spec: Annotated[JobSpec, Body(openapi_examples=SPEC_EXAMPLES)],
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, description="The same key and body again answer the same job, made once"),
    ] = None,
) -> JobAnswer:
    """Every reference is checked first; a 422 lists all that is wrong. `Location` is where to look for progress."""
    made = jobs.create(work, spec, idempotency_key=idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{made.job.id}"
    if not made.created:
        response.headers["Idempotent-Replayed"] = "true"
    return JobAnswer.model_validate(made.job)


@router.get("", operation_id="list_jobs", summary="List jobs, newest first", responses=problems(400, 422))
def list_jobs(
    factory: FactoryDep,
    paging: PagingDep,
    state: Annotated[JobState | None, Query(description="Only jobs in this state")] = None,
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind")] = None,
) -> Page[JobAnswer]:
    """All jobs, or those of one state or kind."""
    # No `ReadDep`, which takes a thread to open and one to close: this is what clients poll.
    with factory.read() as work:
        rows = jobs.list_page(work, state=state, kind=kind, after=paging.after, limit=paging.limit)
    return Page[JobAnswer].of(rows, rows.items)


@router.get("/{job_id}", operation_id="get_job", summary="Show a job", responses=problems(404, 422))
def get_job(work: ReadDep, job_id: IdPath) -> JobAnswer:
    """State, error and results."""
    return JobAnswer.model_validate(jobs.get(work, job_id))


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    summary="Delete a job",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404, 409, 422, 507),
)
def delete_job(work: WorkDep, job_id: IdPath) -> None:
    """Its log and its steps' files go, what it made stays. 409 while it goes on."""
    jobs.delete(work, job_id)


@router.post("/{job_id}:cancel", operation_id="cancel_job", summary="Cancel", responses=problems(404, 409, 422, 507))
def cancel_job(work: WorkDep, job_id: IdPath) -> JobAnswer:
    """Waiting steps stop at once, running ones between two batches. Cancelling twice is no error."""
    return JobAnswer.model_validate(jobs.cancel(work, job_id))


@router.post("/{job_id}:retry", operation_id="retry_job", summary="Retry", responses=problems(404, 409, 422, 507))
def retry_job(work: WorkDep, job_id: IdPath) -> JobAnswer:
    """A failed or cancelled job goes on where it stopped; finished steps and checkpoints are kept."""
    return JobAnswer.model_validate(jobs.retry(work, job_id))
