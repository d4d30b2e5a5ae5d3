"""Pages of reports: student against head and few-label baseline."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.dashboard import filter_curve, report_view
from api.dashboard.page import PageRoute, page, query
from api.dashboard.step_bars import step_bars
from api.dashboard.tap_map import tap_maps
from api.dependencies import IdPath, ReadDep, WorkDep
from api.pagination import PagingDep, encode_cursor
from service import jobs, reports, steps, students
from service.plan import known_stages
from service.tables import Report
from service.unit_of_work import Work

router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/reports")
def report_list(request: Request, work: ReadDep, paging: PagingDep) -> HTMLResponse:
    """Reports, newest first."""
    rows = reports.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return page(
        request,
        "reports.html",
        section="reports",
        reports=[_item(work, report) for report in rows.items],
        first_page=paging.after is None,
        next_url=f"/reports{query(cursor=cursor)}" if cursor else None,
    )


def _item(work: Work, report: Report) -> dict[str, Any]:
    return {
        "id": report.id,
        "name": jobs.get(work, report.job_id, deleted=True).name,
        "created_at": report.created_at,
        "student": report_view.score_of(report.content, "student"),
        "baseline": report_view.score_of(report.content, "baseline"),
    }


@router.get("/reports/{report_id}")
def report_page(request: Request, work: ReadDep, report_id: IdPath) -> HTMLResponse:
    """One report."""
    report = reports.get(work, report_id)
    job = jobs.get(work, report.job_id, deleted=True)
    rows = report_view.rows_of(report.content)
    return page(
        request,
        "report.html",
        section="reports",
        title=f"Report: {job.name}",
        report=report,
        job=job,
        student=None if report.student_id is None else students.get(work, report.student_id, deleted=True),
        dataset_id=job.result.get("dataset_id") or job.spec.get("dataset_id"),
        titles=[report_view.row_title(row) for row in rows],
        num_images=next((row.get("num_images") for row in rows if row.get("num_images")), None),
        verdict=report_view.verdict(report.content),
        scores=report_view.score_lines(rows),
        classes=report_view.class_lines(rows),
        boundaries=report_view.class_lines(rows, "per_class_boundary_iou"),
        confusions=report_view.confusions(rows),
        folds=report_view.folds(report.content),
        extremes=report_view.extremes(report.content),
        curve=filter_curve.picture(report.content),
        tap_maps=tap_maps(report.content),
        costs=step_bars(steps.list_of_job(work, job.id), known_stages(job.spec)),
    )


@router.post("/reports/{report_id}/delete")
def delete_report(work: WorkDep, report_id: IdPath) -> Response:
    """Delete and show those that are left."""
    reports.delete(work, report_id)
    return RedirectResponse("/reports", status_code=303)
