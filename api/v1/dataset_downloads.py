"""What a user takes home of a dataset: exports, the manifest and the shards."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.dependencies import IdPath, IndexPath, ReadDep
from api.downloads import Download, download, file_responses
from api.errors import problems
from api.pagination import Page
from api.v1.answer import Answer
from service import datasets
from service.errors import Conflict
from service.paging import Page as Rows

router = APIRouter(prefix="/v1/datasets/{dataset_id}", tags=["datasets"])


class DatasetShardAnswer(Answer):
    """One WebDataset tar."""

    index: int
    sha256: str
    num_bytes: int
    num_images: int
    pool_kind: Literal["synthesized", "encoded"]


class DatasetExportAnswer(Answer):
    """One downloadable form of the dataset."""

    format: str = Field(examples=["coco"])
    sha256: str
    num_bytes: int
    validation: dict[str, Any] = Field(description="The validator's report")
    created_at: datetime
    expires_at: datetime | None = Field(
        description="From then on a download is a 410 and a job of kind export makes it anew"
    )


@router.get("/exports", operation_id="list_dataset_exports", summary="List exports", responses=problems(404, 422))
def list_dataset_exports(work: ReadDep, dataset_id: IdPath) -> Page[DatasetExportAnswer]:
    """Those that are written already."""
    rows = datasets.exports(work, datasets.get(work, dataset_id).id)
    return Page[DatasetExportAnswer].of(Rows(rows, None), rows)


@router.get(
    "/exports/coco",
    operation_id="download_coco",
    summary="The COCO zip",
    response_class=Response,
    responses=file_responses("application/zip", "The zip"),
)
def download_coco(request: Request, work: ReadDep, dataset_id: IdPath) -> Response:
    """Images, `annotations.json` with compressed RLE, label maps, and the validator's report."""
    row = datasets.get_export(work, datasets.get(work, dataset_id).id, "coco")
    key = datasets.export_key(work, row)
    return download(request, work.storage, Download(key, f"{dataset_id}-coco.zip", "application/zip", row.sha256))


@router.get(
    "/manifest",
    operation_id="download_manifest",
    summary="The manifest",
    response_class=Response,
    responses=file_responses("application/json", "Shards with digests, card, statistics", 409),
)
def download_manifest(request: Request, work: ReadDep, dataset_id: IdPath) -> Response:
    """Written when the dataset is sealed; 409 before."""
    row = datasets.get(work, dataset_id)
    if row.manifest_key is None:
        raise Conflict(f"The dataset {row.id} is still being built; its manifest comes when it is sealed.")
    item = Download(row.manifest_key, f"{dataset_id}-manifest.json", "application/json")
    return download(request, work.storage, item)


@router.get("/shards", operation_id="list_dataset_shards", summary="List shards", responses=problems(404, 422))
def list_dataset_shards(work: ReadDep, dataset_id: IdPath) -> Page[DatasetShardAnswer]:
    """All shards that are written already, in one page."""
    rows = datasets.shards(work, datasets.get(work, dataset_id).id)
    return Page[DatasetShardAnswer].of(Rows(rows, None), rows)


@router.get(
    "/shards/{index}",
    operation_id="download_shard",
    summary="One shard",
    response_class=Response,
    responses=file_responses("application/x-tar", "The WebDataset tar"),
)
def download_shard(request: Request, work: ReadDep, dataset_id: IdPath, index: IndexPath) -> Response:
    """Image, label map, instance map, soft label and metadata of every sample."""
    row = datasets.get_shard(work, datasets.get(work, dataset_id).id, index)
    return download(request, work.storage, Download(row.key, f"{index:05}.tar", "application/x-tar", row.sha256))
