"""Generators: listed, shown, and their sample sheet."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response, status
from pydantic import ConfigDict, Field

from api.dependencies import FactoryDep, IdPath, ReadDep, WorkDep
from api.downloads import Download, download, file_responses
from api.errors import problems
from api.pagination import Page, PagingDep
from api.signed_urls import DEFAULT_SECONDS, ExpiresIn, SignedUrlAnswer, signed
from api.strict_json import StrictRoute
from api.v1.answer import Answer
from service import generators
from service.unit_of_work import Work

router = APIRouter(prefix="/v1/generators", tags=["generators"], route_class=StrictRoute)


class GeneratorAnswer(Answer):
    """A registered image generator."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "gen_01kaxv5t8q3m6n9p2r4s7t0v1w",
                "name": "portraits",
                "state": "ready",
                "family": "unet_diffusion",
                "can_sample": True,
                "can_encode": True,
                "image_height": 64,
                "image_width": 64,
                "image_channels": 3,
                "num_parameters": 3_400_000,
                "digest": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "card": {"license": "Apache-2.0", "recipe": "train_generator, 20000 steps"},
                "job_id": None,
                "created_at": "2026-11-23T17:40:00Z",
            }
        }
    )

    id: str
    name: str
    state: Literal["training", "ready", "failed"]
    family: str
    can_sample: bool = Field(description="Draws images: the pool `synthesized`")
    can_encode: bool = Field(description="Gives the features of real images: heads, and the pool `encoded`")
    image_height: int | None = Field(description="Null of an encoder that takes images of any size")
    image_width: int | None = Field(description="Null with image_height")
    image_channels: int
    num_parameters: int | None
    digest: str | None = Field(description="SHA-256 over the names and contents of all files")
    card: dict[str, Any] = Field(description="Data, licence, recipe and measurements")
    job_id: str | None = Field(description="The job that trains or trained it")
    created_at: datetime


@router.get("", operation_id="list_generators", summary="List generators, newest first", responses=problems(400, 422))
def list_generators(work: ReadDep, paging: PagingDep) -> Page[GeneratorAnswer]:
    """Those the operator offers and those trained here."""
    rows = generators.list_page(work, after=paging.after, limit=paging.limit)
    return Page[GeneratorAnswer].of(rows, rows.items)


@router.get("/{generator_id}", operation_id="get_generator", summary="Show a generator", responses=problems(404, 422))
def get_generator(work: ReadDep, generator_id: IdPath) -> GeneratorAnswer:
    """By id or by name."""
    return GeneratorAnswer.model_validate(generators.get(work, generator_id))


@router.delete(
    "/{generator_id}",
    operation_id="delete_generator",
    summary="Delete a generator",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404, 409, 422, 507),
)
def delete_generator(work: WorkDep, generator_id: IdPath) -> None:
    """Its name is free again. 409: a job needs it, or the operator's folder offers it."""
    generators.delete(work, generator_id)


@router.get(
    "/{generator_id}/samples.png",
    operation_id="get_generator_samples",
    summary="A sheet of its samples",
    response_class=Response,
    responses=file_responses("image/png", "The sample sheet", 409),
)
def get_generator_samples(request: Request, work: ReadDep, generator_id: IdPath) -> Response:
    """As its training left it; 409 while it trains."""
    row = generators.get(work, generator_id)
    key = generators.file_key(row, generators.SAMPLES_FILE)
    return download(request, work.storage, Download(key, f"{row.name}-samples.png", "image/png"))


@router.get(
    "/{generator_id}/archive",
    operation_id="download_generator_archive",
    summary="All files in one zip",
    response_class=Response,
    responses=file_responses("application/zip", "The zip", 409),
)
def download_generator_archive(request: Request, work: ReadDep, generator_id: IdPath) -> Response:
    """The diffusers directory with its card; unpacked into the operator's folder, it is registered at the next start."""
    return download(request, work.storage, _archive(work, generator_id))


@router.get(
    "/{generator_id}/archive/signed-url",
    operation_id="sign_generator_archive",
    summary="An address of the zip that needs no key",
    responses=problems(404, 409, 422),
)
def sign_generator_archive(
    factory: FactoryDep,
    work: ReadDep,
    response: Response,
    generator_id: IdPath,
    expires_in: ExpiresIn = DEFAULT_SECONDS,
) -> SignedUrlAnswer:
    """For a short while, and for GET alone."""
    return signed(factory, work, response, _archive(work, generator_id), expires_in)


def _archive(work: Work, generator_id: str) -> Download:
    row = generators.get(work, generator_id)
    return Download(generators.archive_key(work, row), f"{row.name}.zip", "application/zip")
