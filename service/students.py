"""Students: distilled networks with their files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import select

from service import announcements, deletion, events
from service.errors import NotFound
from service.lookup import must_find
from service.paging import Page, newest_first
from service.tables import Student
from service.unit_of_work import Work


@dataclass(frozen=True)
class StudentFile:
    """One stored file of a student's directory."""

    name: str
    """Name within the directory, such as `model.safetensors`."""
    key: str
    """Its object."""
    num_bytes: int
    """Its length."""
    sha256: str
    """Its digest."""


@dataclass(frozen=True)
class NewStudent:
    """What a distillation hands over; its files are stored already."""

    id: str
    """From `ids.new_id("stu")`: the files' keys are made of it."""
    dataset_id: str | None
    """What it learned from; None where that was the few labels alone."""
    name: str
    """What people call it."""
    architecture: str
    """As in the job's spec."""
    num_parameters: int
    """Weights of the network."""
    classes: list[dict[str, Any]]
    """Classes in the order of its output channels."""
    files: list[StudentFile]
    """All files of the directory."""
    archive_key: str
    """Zip of all files."""
    num_bytes: int
    """Length of all files and of their zip."""
    card: dict[str, Any]
    """Recipe, losses, checks."""


def record(work: Work, job_id: str, new: NewStudent) -> Student:
    """Make the job's student; call it in the transaction that records the step. Raises NotFound."""
    job = events.lock_job(work, job_id)
    fields = {name: getattr(new, name) for name in new.__dataclass_fields__ if name != "files"}
    row = Student(workspace_id=job.workspace_id, job_id=job_id, files=[asdict(file) for file in new.files], **fields)
    work.session.add(row)
    job.result = {**job.result, "student_id": row.id}
    work.session.flush()
    announcements.student_ready(work, row)
    return row


def attach_report(
    work: Work, student_id: str, files: list[StudentFile], archive_key: str, num_bytes: int, card: dict[str, Any]
) -> None:
    """Give a student the card that names its measurements; its weights stay. Raises NotFound."""
    row = get(work, student_id)
    events.lock_job(work, row.job_id)
    row.files, row.archive_key, row.num_bytes = [asdict(file) for file in files], archive_key, num_bytes
    row.card = card
    work.session.flush()


def get(work: Work, student_id: str, *, deleted: bool = False) -> Student:
    """One student; `deleted` finds the row of a deleted one too. Raises NotFound, Gone."""
    return must_find(work, Student, student_id, "student", deleted=deleted)


def list_page(work: Work, *, dataset_id: str | None = None, after: str | None = None, limit: int = 50) -> Page[Student]:
    """Students, newest first; all of them, or those that learned from one dataset."""
    query = select(Student).where(Student.deleted_at.is_(None))
    if dataset_id is not None:
        query = query.where(Student.dataset_id == dataset_id)
    return newest_first(work, query, Student.id, after=after, limit=limit)


def delete(work: Work, student_id: str) -> None:
    """Delete a student. Raises NotFound, Gone, Conflict while a job makes or measures it."""
    deletion.delete(work, get(work, student_id))


def file(row: Student, name: str) -> StudentFile:
    """One file of a student by name. Raises NotFound."""
    for entry in row.files:
        if entry["name"] == name:
            return StudentFile(**entry)
    raise NotFound(f"The student {row.id} has no file {name[:100]}.")
