"""Pages of students: card, files and what their report says."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.dashboard.card_rows import Row, card_rows
from api.dashboard.formatting import ago, count
from api.dashboard.page import PageRoute, page, query
from api.dashboard.report_view import extremes, verdict
from api.dependencies import IdPath, ReadDep, WorkDep
from api.pagination import PagingDep, encode_cursor
from service import jobs, reports, students
from service.tables import Report, Student
from service.unit_of_work import Work

#: Shown elsewhere on the page, or too long for it.
HIDDEN = (
    "classes",
    "files",
    "per_class_iou",
    "per_class_boundary_iou",
    "confusion_matrix",
    "readme",
    "report",
    "summary",
    "learned_from",
    "curve",
)
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/students")
def student_list(request: Request, work: ReadDep, paging: PagingDep) -> HTMLResponse:
    """Students, newest first."""
    rows = students.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return page(
        request,
        "students.html",
        section="students",
        students=rows.items,
        first_page=paging.after is None,
        next_url=f"/students{query(cursor=cursor)}" if cursor else None,
    )


@router.get("/students/{student_id}")
def student_page(request: Request, work: ReadDep, student_id: IdPath) -> HTMLResponse:
    """One student."""
    student = students.get(work, student_id)
    report = _report_of(work, student)
    return page(
        request,
        "student.html",
        section="students",
        title=student.name,
        student=student,
        report=report,
        job=jobs.get(work, student.job_id, deleted=True),
        verdict=verdict(report.content) if report else None,
        extremes=extremes(report.content) if report else [],
        rows=_rows(student),
    )


@router.post("/students/{student_id}/delete")
def delete_student(work: WorkDep, student_id: IdPath) -> Response:
    """Delete and show those that are left."""
    students.delete(work, student_id)
    return RedirectResponse("/students", status_code=303)


def _report_of(work: Work, student: Student) -> Report | None:
    report_id = jobs.made(work, jobs.get(work, student.job_id, deleted=True)).get("report_id")
    if report_id:
        return reports.get(work, report_id)
    # Trained without held-out images, it may have been measured by a later job.
    return next(iter(reports.list_page(work, student_id=student.id, limit=1).items), None)


def _rows(student: Student) -> list[Row]:
    return [
        ("Architecture", student.architecture),
        ("Parameters", count(student.num_parameters)),
        ("Learned from", None if student.dataset_id else "trained on the few labels alone"),
        *card_rows(student.card, skip=HIDDEN),
        ("Made", ago(student.created_at)),
        ("Id", student.id),
    ]
