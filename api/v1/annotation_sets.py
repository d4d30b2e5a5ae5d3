"""Annotation sets: a zip of annotated images in, validated wholly or refused; then shown."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response, status
from pydantic import ConfigDict, Field

from api.dependencies import PRINTABLE, FactoryDep, IdPath, IndexPath, ReadDep, WorkDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.uploads import ZIP_BODY, Upload, off_loop, received_zip
from api.v1.answer import Answer, LabelClassAnswer
from api.v1.picture import PICTURE, ViewDep, picture
from service import annotation_sets, previews, uploads, usage
from service.bootstrap import Factory
from service.spec_parts import Name
from service.upload_reading import AnnotationRequest

router = APIRouter(prefix="/v1/annotation-sets", tags=["annotation sets"], route_class=StrictRoute)

NameList = Annotated[str | None, Query(max_length=20_000, pattern=PRINTABLE)]


class AnnotationSetAnswer(Answer):
    """One version of a few annotated images."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
                "name": "portraits, five",
                "kind": "semantic",
                "classes": [
                    {"name": "background", "thing": False, "color": "#000000", "background": True},
                    {"name": "hair", "thing": False, "color": "#e69f00", "background": False},
                ],
                "num_images": 5,
                "image_height": 64,
                "image_width": 64,
                "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                "statistics": {"num_images": 5, "class_pixels": [12000, 8480]},
                "created_at": "2026-11-23T17:40:00Z",
            }
        }
    )

    id: str
    name: str
    kind: Literal["semantic", "instance"]
    classes: list[LabelClassAnswer] = Field(description="In the order of label map values")
    num_images: int
    image_height: int
    image_width: int
    sha256: str = Field(description="Of the stored tar")
    statistics: dict[str, Any]
    created_at: datetime


def _request(
    name: Annotated[Name, Query(description="What people call it")],
    format: Annotated[Literal["auto", "coco", "masks"], Query(description="What the zip holds")] = "auto",
    kind: Annotated[
        Literal["semantic", "instance"] | None, Query(description="Whether instances count; left out: as the zip says")
    ] = None,
    first: Annotated[int | None, Query(ge=1, le=1_000_000, description="Only the first N images of the zip")] = None,
    classes: Annotated[
        NameList, Query(description="Class names by mask value, `a,b,c`; left out: from the zip")
    ] = None,
    things: Annotated[NameList, Query(description="Classes with instances, `a,b`; left out: from the zip")] = None,
) -> AnnotationRequest:
    return AnnotationRequest(name, format, kind, _names(classes), _names(things), first)


def _names(text: str | None) -> list[str] | None:
    """`a, b` as names; nothing at all is not a list."""
    return None if text is None else [name.strip() for name in text.split(",")]


@router.post(
    "",
    operation_id="create_annotation_set",
    summary="Take in a zip of annotated images",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=ZIP_BODY,
    responses=problems(400, 413, 415, 422, 507),
)
async def create_annotation_set(
    request: Request,
    response: Response,
    factory: FactoryDep,
    wanted: Annotated[AnnotationRequest, Depends(_request)],
) -> AnnotationSetAnswer:
    """COCO (`annotations.json`) or index masks (`masks/*.png`) with `images/`, in one zip.

    Every problem is listed with its place, and then nothing is stored.
    """
    await anyio.to_thread.run_sync(_require_room, factory)
    async with received_zip(request, factory.settings) as upload:
        answer = await off_loop(request, partial(_create, factory, wanted), upload)
    response.headers["Location"] = f"/v1/annotation-sets/{answer.id}"
    return answer


def _require_room(factory: Factory) -> None:
    """Refuse before the body is read."""
    with factory.read() as work:
        usage.require_room(work)


def _create(factory: Factory, wanted: AnnotationRequest, upload: Upload) -> AnnotationSetAnswer:
    prepared = uploads.prepare_annotation_set(upload.path, upload.path.parent, wanted, factory.settings)
    with factory.work() as work:
        return AnnotationSetAnswer.model_validate(uploads.store_annotation_set(work, prepared))


@router.get(
    "", operation_id="list_annotation_sets", summary="List annotation sets, newest first", responses=problems(400, 422)
)
def list_annotation_sets(work: ReadDep, paging: PagingDep) -> Page[AnnotationSetAnswer]:
    """All of them."""
    rows = annotation_sets.list_page(work, after=paging.after, limit=paging.limit)
    return Page[AnnotationSetAnswer].of(rows, rows.items)


@router.get(
    "/{set_id}", operation_id="get_annotation_set", summary="Show an annotation set", responses=problems(404, 422)
)
def get_annotation_set(work: ReadDep, set_id: IdPath) -> AnnotationSetAnswer:
    """Classes, sizes and counts."""
    return AnnotationSetAnswer.model_validate(annotation_sets.get(work, set_id))


@router.delete(
    "/{set_id}",
    operation_id="delete_annotation_set",
    summary="Delete an annotation set",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404, 409, 422, 507),
)
def delete_annotation_set(work: WorkDep, set_id: IdPath) -> None:
    """Datasets and students that came from it stay. 409 names the job that needs it."""
    annotation_sets.delete(work, set_id)


@router.get(
    "/{set_id}/images/{index}.png",
    operation_id="get_annotation_image",
    summary="One image, its labels laid over it",
    response_class=Response,
    responses=PICTURE,
)
def get_annotation_image(request: Request, work: ReadDep, set_id: IdPath, index: IndexPath, view: ViewDep) -> Response:
    """Read by its byte range alone."""
    row = annotation_sets.get(work, set_id)
    tag = previews.tag(row.sha256, index, view)
    return picture(request, tag, lambda: previews.annotation_image(work, row, index, view))
