"""Reports: measurements against held-out truth and baselines."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from service import deletion, events
from service.errors import NotFound
from service.ids import new_id
from service.lookup import must_find
from service.paging import Page, newest_first
from service.tables import Report
from service.unit_of_work import Work


def record(work: Work, job_id: str, content: dict[str, Any], *, student_id: str | None = None) -> Report:
    """Make the job's report; call it in the transaction that records the step. Raises NotFound."""
    job = events.lock_job(work, job_id)
    row = Report(id=new_id("rep"), workspace_id=job.workspace_id, job_id=job_id, student_id=student_id, content=content)
    work.session.add(row)
    job.result = {**job.result, "report_id": row.id}
    work.session.flush()
    return row


def get(work: Work, report_id: str) -> Report:
    """One report. Raises NotFound, Gone."""
    return must_find(work, Report, report_id, "report")


def delete(work: Work, report_id: str) -> None:
    """Delete a report; the card of its student keeps the numbers. Raises NotFound, Gone, Conflict while its job goes on."""
    deletion.delete(work, get(work, report_id))


def sheet_key(report: Report) -> str:
    """Object key of the picture of its worst and best images. Raises NotFound where nothing held out was measured."""
    sheet = report.content.get("sheet")
    if not sheet:
        raise NotFound(f"The report {report.id} has no picture of held-out images.")
    return str(sheet["key"])


def list_page(work: Work, *, student_id: str | None = None, after: str | None = None, limit: int = 50) -> Page[Report]:
    """Reports, newest first."""
    query = select(Report).where(Report.deleted_at.is_(None))
    if student_id is not None:
        query = query.where(Report.student_id == student_id)
    return newest_first(work, query, Report.id, after=after, limit=limit)
