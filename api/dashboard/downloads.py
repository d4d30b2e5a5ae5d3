"""What can be taken home, with its REST address."""

from dataclasses import dataclass

from service import datasets, jobs, students
from service.tables import Dataset, Job, Student
from service.unit_of_work import Work


@dataclass(frozen=True)
class Download:
    """One file behind a button."""

    words: str
    url: str
    num_bytes: int | None = None


def of_job(work: Work, job: Job) -> list[Download]:
    """Everything a job made that can be downloaded by now."""
    made = jobs.made(work, job)
    found: list[Download] = []
    if "dataset_id" in made and (dataset := datasets.get(work, made["dataset_id"])).job_id == job.id:
        found += of_dataset(work, dataset)
    if "student_id" in made:
        found += of_student(students.get(work, made["student_id"]))
    return found


def of_dataset(work: Work, dataset: Dataset) -> list[Download]:
    """Exports and the manifest of a dataset; nothing before it is sealed."""
    if dataset.state != "sealed" or dataset.deleted_at is not None:
        return []
    base = f"/v1/datasets/{dataset.id}"
    exports = [
        Download(f"{item.format.upper()} zip", f"{base}/exports/{item.format}", item.num_bytes)
        for item in datasets.exports(work, dataset.id)
        if not datasets.has_expired(work, item)
    ]
    return [*exports, Download("Manifest", f"{base}/manifest")]


def of_student(student: Student) -> list[Download]:
    """The student's directory as one zip."""
    if student.archive_key is None:
        return []
    size = sum(int(file["num_bytes"]) for file in student.files)
    return [Download("Student zip", f"/v1/students/{student.id}/archive", size)]
