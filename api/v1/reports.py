"""Reports: what a job's head, dataset and student measured against held-out truth and the few-label baseline."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import ConfigDict, Field

from api.dependencies import PRINTABLE, IdPath, ReadDep, WorkDep
from api.downloads import Download, download, file_responses
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.v1.answer import Answer
from service import reports

router = APIRouter(prefix="/v1/reports", tags=["reports"], route_class=StrictRoute)


class ReportAnswer(Answer):
    """Measurements; never changed."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "rep_01kaxvf7h9j1k3m5n7p9q1r3s5",
                "job_id": "job_01kaxv8e3f5g7h9j1k3m5n7p9q",
                "student_id": "stu_01kaxvd3f5g7h9j1k3m5n7p9q1",
                "content": {"student": {"mean_iou": 0.608}, "baseline": {"mean_iou": 0.52}},
                "created_at": "2026-11-23T17:55:00Z",
            }
        }
    )

    id: str
    job_id: str
    student_id: str | None
    content: dict[str, Any] = Field(
        description=(
            "Student, head and few-label baseline, class by class, with costs; `images` are the worst and best held-out "
            "ones; `taps` is what each of the generator's blocks knows at each timestep (mIoU of a linear read-out, "
            "cross-validated on the few labels) and which of them the head reads; `filter_curve` is the head's mIoU on "
            "what is kept over the share of the most uncertain images, or of every image's pixels, dropped"
        )
    )
    created_at: datetime


@router.get("", operation_id="list_reports", summary="List reports, newest first", responses=problems(400, 422))
def list_reports(
    work: ReadDep,
    paging: PagingDep,
    student_id: Annotated[
        str | None, Query(max_length=120, pattern=PRINTABLE, description="Only reports of this student")
    ] = None,
) -> Page[ReportAnswer]:
    """All of them, or one student's."""
    rows = reports.list_page(work, student_id=student_id, after=paging.after, limit=paging.limit)
    return Page[ReportAnswer].of(rows, rows.items)


@router.get("/{report_id}", operation_id="get_report", summary="Show a report", responses=problems(404, 422))
def get_report(work: ReadDep, report_id: IdPath) -> ReportAnswer:
    """The whole report as JSON."""
    return ReportAnswer.model_validate(reports.get(work, report_id))


@router.delete(
    "/{report_id}",
    operation_id="delete_report",
    summary="Delete a report",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404, 409, 422, 507),
)
def delete_report(work: WorkDep, report_id: IdPath) -> None:
    """The card of its student keeps the numbers; 409 while its job goes on."""
    reports.delete(work, report_id)


@router.get(
    "/{report_id}/images.png",
    operation_id="get_report_images",
    summary="The worst and best images",
    response_class=Response,
    responses=file_responses("image/png", "The images, their labels and the predicted ones, row by row"),
)
def get_report_images(request: Request, work: ReadDep, report_id: IdPath) -> Response:
    """From the worst on the left to the best; `content.sheet.images` has their indices."""
    item = Download(reports.sheet_key(reports.get(work, report_id)), f"{report_id}-images.png", "image/png")
    return download(request, work.storage, item)
