"""Datasets: what a job labelled; its images with their labels laid over them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response, status
from pydantic import ConfigDict, Field

from api.dependencies import IdPath, IndexPath, ReadDep, WorkDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.v1.answer import Answer, LabelClassAnswer
from api.v1.picture import PICTURE, ViewDep, picture
from service import datasets, previews

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=StrictRoute)

DatasetState = Literal["building", "sealed"]


class DatasetAnswer(Answer):
    """Labelled images made by one job; never changed once sealed."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "ds_01kaxv9k7m9n1p3q5r7s9t1v3w",
                "job_id": "job_01kaxv8e3f5g7h9j1k3m5n7p9q",
                "name": "label with portraits",
                "state": "sealed",
                "num_images": 2000,
                "num_kept": 1800,
                "classes": [{"name": "background", "thing": False, "color": "#000000", "background": True}],
                "image_height": 64,
                "image_width": 64,
                "card": {"generator": "portraits", "seed": 0},
                "statistics": {"pools": {"synthesized": {"num_images": 2000, "num_kept": 1800}}},
                "created_at": "2026-11-23T17:41:00Z",
                "sealed_at": "2026-11-23T17:48:00Z",
                "deleted_at": None,
            }
        }
    )

    id: str
    job_id: str
    name: str
    state: DatasetState
    num_images: int = Field(description="Counted when it is sealed")
    num_kept: int | None = Field(description="Images that passed the filter; null while building")
    classes: list[LabelClassAnswer]
    image_height: int
    image_width: int
    card: dict[str, Any] = Field(description="Lineage: generator, head, annotation set, seeds, versions, licence")
    statistics: dict[str, Any]
    created_at: datetime
    sealed_at: datetime | None
    deleted_at: datetime | None = Field(description="Only the card is left of a deleted dataset")


class DatasetImageAnswer(Answer):
    """One image; its picture stands at `images/{index}.png`."""

    index: int = Field(examples=[17])
    name: str = Field(description="Its key in the shard", examples=["s0000017"])
    shard_index: int
    uncertainty: float = Field(description="Mean disagreement of the head's members on the most uncertain pixels")
    kept: bool | None = Field(description="null until the dataset is sealed")
    weight: float | None = Field(description="How often a student sees it; 1 on average over kept images")
    class_pixels: list[int] = Field(description="In class order")


@router.get("", operation_id="list_datasets", summary="List datasets, newest first", responses=problems(400, 422))
def list_datasets(
    work: ReadDep,
    paging: PagingDep,
    state: Annotated[DatasetState | None, Query(description="Only datasets in this state")] = None,
) -> Page[DatasetAnswer]:
    """Growing and sealed ones."""
    rows = datasets.list_page(work, state=state, after=paging.after, limit=paging.limit)
    return Page[DatasetAnswer].of(rows, rows.items)


@router.get("/{dataset_id}", operation_id="get_dataset", summary="Show a dataset", responses=problems(404, 422))
def get_dataset(work: ReadDep, dataset_id: IdPath) -> DatasetAnswer:
    """Its state, card and class balance; also of a deleted one, whose card other things still name."""
    return DatasetAnswer.model_validate(datasets.get(work, dataset_id, deleted=True))


@router.delete(
    "/{dataset_id}",
    operation_id="delete_dataset",
    summary="Delete a dataset",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404, 409, 422, 507),
)
def delete_dataset(work: WorkDep, dataset_id: IdPath) -> None:
    """Images, shards and exports go; the card stays for what came from it. 409 names the job that needs it."""
    datasets.delete(work, dataset_id)


@router.get(
    "/{dataset_id}/images", operation_id="list_dataset_images", summary="List images", responses=problems(400, 404, 422)
)
def list_dataset_images(
    work: ReadDep,
    dataset_id: IdPath,
    paging: PagingDep,
    sort: Annotated[datasets.ImageSort, Query(description="`uncertainty`: the most uncertain first")] = "index",
    kept: Annotated[bool | None, Query(description="Only images that passed the filter, or only the others")] = None,
) -> Page[DatasetImageAnswer]:
    """Also while the dataset grows."""
    row = datasets.get(work, dataset_id)
    rows = datasets.list_images(work, row.id, sort=sort, kept=kept, after=paging.after, limit=paging.limit)
    return Page[DatasetImageAnswer].of(rows, rows.items)


@router.get(
    "/{dataset_id}/images/{index}.png",
    operation_id="get_dataset_image",
    summary="One image, its labels laid over it",
    response_class=Response,
    responses=PICTURE,
)
def get_dataset_image(request: Request, work: ReadDep, dataset_id: IdPath, index: IndexPath, view: ViewDep) -> Response:
    """Read from its shard by byte range alone."""
    row = datasets.get(work, dataset_id)
    image = datasets.get_image(work, dataset_id, index)
    shard = datasets.get_shard(work, dataset_id, image.shard_index)
    tag = previews.tag(shard.sha256, index, view)
    return picture(request, tag, lambda: previews.dataset_image(work, row, image, view))
