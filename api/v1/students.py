"""Students: distilled networks, their cards and their files."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response, status
from pydantic import ConfigDict, Field

from api.dependencies import FactoryDep, IdPath, ReadDep, WorkDep
from api.downloads import Download, download, file_responses
from api.errors import problems
from api.pagination import Page, PagingDep
from api.signed_urls import DEFAULT_SECONDS, ExpiresIn, SignedUrlAnswer, signed
from api.strict_json import StrictRoute
from api.v1.answer import Answer, LabelClassAnswer
from service import students
from service.errors import NotFound
from service.unit_of_work import Work

router = APIRouter(prefix="/v1/students", tags=["students"], route_class=StrictRoute)

FileName = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="As listed in `files`")]


class StudentFileAnswer(Answer):
    """One file of the transformers directory, or the ONNX form."""

    name: str
    num_bytes: int
    sha256: str


class StudentAnswer(Answer):
    """A distilled network."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "stu_01kaxvd3f5g7h9j1k3m5n7p9q1",
                "job_id": "job_01kaxv8e3f5g7h9j1k3m5n7p9q",
                "dataset_id": "ds_01kaxv9k7m9n1p3q5r7s9t1v3w",
                "name": "label with portraits",
                "architecture": "segformer_b0",
                "num_parameters": 3_715_000,
                "classes": [{"name": "background", "thing": False, "color": "#000000", "background": True}],
                "files": [
                    {
                        "name": "model.safetensors",
                        "num_bytes": 14_880_000,
                        "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    }
                ],
                "card": {"recipe": "label distillation, then fine-tuning"},
                "created_at": "2026-11-23T17:52:00Z",
            }
        }
    )

    id: str
    job_id: str
    dataset_id: str | None = Field(description="What it learned from; null: the few labels alone")
    name: str
    architecture: str
    num_parameters: int
    classes: list[LabelClassAnswer]
    files: list[StudentFileAnswer]
    card: dict[str, Any]
    created_at: datetime


@router.get("", operation_id="list_students", summary="List students, newest first", responses=problems(400, 422))
def list_students(work: ReadDep, paging: PagingDep) -> Page[StudentAnswer]:
    """All of them."""
    rows = students.list_page(work, after=paging.after, limit=paging.limit)
    return Page[StudentAnswer].of(rows, rows.items)


@router.get("/{student_id}", operation_id="get_student", summary="Show a student", responses=problems(404, 422))
def get_student(work: ReadDep, student_id: IdPath) -> StudentAnswer:
    """Its architecture, card and files."""
    return StudentAnswer.model_validate(students.get(work, student_id))


@router.delete(
    "/{student_id}",
    operation_id="delete_student",
    summary="Delete a student",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404, 409, 422, 507),
)
def delete_student(work: WorkDep, student_id: IdPath) -> None:
    """Its files go; 409 names the job that makes or measures it."""
    students.delete(work, student_id)


@router.get(
    "/{student_id}/files/{name}",
    operation_id="download_student_file",
    summary="One file of the student's directory",
    response_class=Response,
    responses=file_responses("application/octet-stream", "The file"),
)
def download_student_file(request: Request, work: ReadDep, student_id: IdPath, name: FileName) -> Response:
    """Ranges, entity tags and a digest, as for every download."""
    return download(request, work.storage, _file(work, student_id, name))


@router.get(
    "/{student_id}/files/{name}/signed-url",
    operation_id="sign_student_file",
    summary="An address of one file that needs no key",
    responses=problems(404, 422),
)
def sign_student_file(
    factory: FactoryDep,
    work: ReadDep,
    response: Response,
    student_id: IdPath,
    name: FileName,
    expires_in: ExpiresIn = DEFAULT_SECONDS,
) -> SignedUrlAnswer:
    """For a short while, and for GET alone."""
    return signed(factory, work, response, _file(work, student_id, name), expires_in)


def _file(work: Work, student_id: str, name: str) -> Download:
    file = students.file(students.get(work, student_id), name)
    return Download(file.key, file.name, "application/octet-stream", file.sha256)


@router.get(
    "/{student_id}/archive",
    operation_id="download_student_archive",
    summary="All files in one zip",
    response_class=Response,
    responses=file_responses("application/zip", "The zip"),
)
def download_student_archive(request: Request, work: ReadDep, student_id: IdPath) -> Response:
    """Unpack it and load it with `AutoModelForSemanticSegmentation.from_pretrained`."""
    return download(request, work.storage, _archive(work, student_id))


@router.get(
    "/{student_id}/archive/signed-url",
    operation_id="sign_student_archive",
    summary="An address of the zip that needs no key",
    responses=problems(404, 422),
)
def sign_student_archive(
    factory: FactoryDep, work: ReadDep, response: Response, student_id: IdPath, expires_in: ExpiresIn = DEFAULT_SECONDS
) -> SignedUrlAnswer:
    """For a short while, and for GET alone."""
    return signed(factory, work, response, _archive(work, student_id), expires_in)


def _archive(work: Work, student_id: str) -> Download:
    row = students.get(work, student_id)
    if row.archive_key is None:
        raise NotFound(f"The student {row.id} has no archive.")
    return Download(row.archive_key, f"{row.id}.zip", "application/zip")
