"""What a user takes home of a dataset: exports, the manifest and the shards."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import Field

from api.dependencies import FactoryDep, IdPath, IndexPath, ReadDep
from api.downloads import Download, download, file_responses
from api.errors import problems
from api.pagination import Page
from api.signed_urls import DEFAULT_SECONDS, ExpiresIn, SignedUrlAnswer, signed
from api.v1.answer import Answer
from service import datasets
from service.errors import Conflict
from service.paging import Page as Rows
from service.unit_of_work import Work

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
    return download(request, work.storage, _coco(work, dataset_id))


@router.get(
    "/exports/coco/signed-url",
    operation_id="sign_coco",
    summary="An address of the COCO zip that needs no key",
    responses=problems(404, 422),
)
def sign_coco(
    factory: FactoryDep, work: ReadDep, response: Response, dataset_id: IdPath, expires_in: ExpiresIn = DEFAULT_SECONDS
) -> SignedUrlAnswer:
    """For a short while, and for GET alone."""
    return signed(factory, work, response, _coco(work, dataset_id), expires_in)


def _coco(work: Work, dataset_id: str) -> Download:
    row = datasets.get_export(work, datasets.get(work, dataset_id).id, "coco")
    return Download(datasets.export_key(work, row), f"{dataset_id}-coco.zip", "application/zip", row.sha256)


@router.get(
    "/manifest",
    operation_id="download_manifest",
    summary="The manifest",
    response_class=Response,
    responses=file_responses("application/json", "Shards with digests, card, statistics", 409),
)
def download_manifest(request: Request, work: ReadDep, dataset_id: IdPath) -> Response:
    """Written when the dataset is sealed; 409 before."""
    return download(request, work.storage, _manifest(work, dataset_id))


@router.get(
    "/manifest/signed-url",
    operation_id="sign_manifest",
    summary="An address of the manifest that needs no key",
    responses=problems(404, 409, 422),
)
def sign_manifest(
    factory: FactoryDep, work: ReadDep, response: Response, dataset_id: IdPath, expires_in: ExpiresIn = DEFAULT_SECONDS
) -> SignedUrlAnswer:
    """For a short while, and for GET alone."""
    return signed(factory, work, response, _manifest(work, dataset_id), expires_in)


def _manifest(work: Work, dataset_id: str) -> Download:
    row = datasets.get(work, dataset_id)
    if row.manifest_key is None:
        raise Conflict(f"The dataset {row.id} is still being built; its manifest comes when it is sealed.")
    return Download(row.manifest_key, f"{dataset_id}-manifest.json", "application/json")


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
    return download(request, work.storage, _shard(work, dataset_id, index))


@router.get(
    "/shards/{index}/signed-url",
    operation_id="sign_shard",
    summary="An address of one shard that needs no key",
    responses=problems(404, 422),
)
def sign_shard(
    factory: FactoryDep,
    work: ReadDep,
    response: Response,
    dataset_id: IdPath,
    index: IndexPath,
    expires_in: ExpiresIn = DEFAULT_SECONDS,
) -> SignedUrlAnswer:
    """For a short while, and for GET alone."""
    return signed(factory, work, response, _shard(work, dataset_id, index), expires_in)


def _shard(work: Work, dataset_id: str, index: int) -> Download:
    row = datasets.get_shard(work, datasets.get(work, dataset_id).id, index)
    return Download(row.key, f"{index:05}.tar", "application/x-tar", row.sha256)
