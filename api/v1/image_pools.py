"""Image pools: made empty, filled by streamed zips, sealed for use."""

from datetime import datetime
from functools import partial
from typing import Literal

import anyio.to_thread
from fastapi import APIRouter, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import FactoryDep, IdPath, ReadDep, WorkDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.uploads import ZIP_BODY, Upload, off_loop, received_zip
from api.v1.answer import Answer
from service import image_pools, uploads, usage
from service.bootstrap import Factory
from service.errors import Conflict
from service.spec_parts import Name

router = APIRouter(prefix="/v1/image-pools", tags=["image pools"], route_class=StrictRoute)


class NewImagePool(BaseModel):
    """What a pool is called."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"example": {"name": "slide 7, unlabelled"}}
    )

    name: Name


class ImagePoolAnswer(Answer):
    """A pool of unlabelled images of one size."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "pool_01kaxv7n5p7q9r1s3t5v7w9x1y",
                "name": "slide 7, unlabelled",
                "state": "sealed",
                "num_images": 1568,
                "image_height": 64,
                "image_width": 64,
                "created_at": "2026-11-23T17:40:00Z",
            }
        }
    )

    id: str
    name: str
    state: Literal["open", "sealed"]
    num_images: int
    image_height: int | None = Field(description="Of all images; null while empty")
    image_width: int | None
    created_at: datetime


class PoolUploadAnswer(Answer):
    """What one upload added."""

    num_images: int = Field(description="Images in this upload's part", examples=[1568])
    num_duplicates: int = Field(description="Left out: the same picture came before in this upload", examples=[0])
    sha256: str = Field(description="Of the zip as it was received")
    pool: ImagePoolAnswer


@router.post(
    "",
    operation_id="create_image_pool",
    summary="Make an empty pool",
    status_code=status.HTTP_201_CREATED,
    responses=problems(400, 413, 415, 422, 507),
)
def create_image_pool(work: WorkDep, body: NewImagePool, response: Response) -> ImagePoolAnswer:
    """It is open: images can be added until it is sealed."""
    row = image_pools.create(work, body.name)
    response.headers["Location"] = f"/v1/image-pools/{row.id}"
    return ImagePoolAnswer.model_validate(row)


@router.get("", operation_id="list_image_pools", summary="List pools, newest first", responses=problems(400, 422))
def list_image_pools(work: ReadDep, paging: PagingDep) -> Page[ImagePoolAnswer]:
    """Open and sealed ones."""
    rows = image_pools.list_page(work, after=paging.after, limit=paging.limit)
    return Page[ImagePoolAnswer].of(rows, rows.items)


@router.get("/{pool_id}", operation_id="get_image_pool", summary="Show a pool", responses=problems(404, 422))
def get_image_pool(work: ReadDep, pool_id: IdPath) -> ImagePoolAnswer:
    """Its state and what it holds."""
    return ImagePoolAnswer.model_validate(image_pools.get(work, pool_id))


@router.delete(
    "/{pool_id}",
    operation_id="delete_image_pool",
    summary="Delete a pool",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404, 409, 422, 507),
)
def delete_image_pool(work: WorkDep, pool_id: IdPath) -> None:
    """Open or sealed; generators and datasets that came from it stay. 409 names the job that needs it."""
    image_pools.delete(work, pool_id)


@router.post(
    "/{pool_id}/images",
    operation_id="add_images",
    summary="Add images from a zip",
    status_code=status.HTTP_201_CREATED,
    openapi_extra=ZIP_BODY,
    responses=problems(400, 404, 409, 413, 415, 422, 507),
)
async def add_images(request: Request, factory: FactoryDep, pool_id: IdPath) -> PoolUploadAnswer:
    """PNG, JPEG or WebP files of one size. One bad image refuses the whole zip; the same zip again changes nothing."""
    await anyio.to_thread.run_sync(_require_open, factory, pool_id)
    async with received_zip(request, factory.settings) as upload:
        return await off_loop(request, partial(_add, factory, pool_id), upload)


def _require_open(factory: Factory, pool_id: str) -> None:
    """Refuse before the body is read."""
    with factory.read() as work:
        if image_pools.get(work, pool_id).state != "open":
            raise Conflict(f"The image pool {pool_id} is sealed; nothing can be added.")
        usage.require_room(work)


def _add(factory: Factory, pool_id: str, upload: Upload) -> PoolUploadAnswer:
    prepared = uploads.prepare_pool_part(upload.path, upload.path.parent, factory.settings)
    with factory.work() as work:
        part = uploads.store_pool_part(work, pool_id, prepared)
        pool = image_pools.get(work, pool_id)
        return PoolUploadAnswer(
            num_images=part.num_images,
            num_duplicates=prepared.found.num_duplicates,
            sha256=upload.sha256,
            pool=ImagePoolAnswer.model_validate(pool),
        )


@router.post(
    "/{pool_id}:seal", operation_id="seal_image_pool", summary="Seal a pool", responses=problems(404, 409, 422, 507)
)
def seal_image_pool(work: WorkDep, pool_id: IdPath) -> ImagePoolAnswer:
    """Nothing can be added any more, and jobs may use it. Sealing twice is no error; an empty pool is a 409."""
    return ImagePoolAnswer.model_validate(image_pools.seal(work, pool_id))
