"""Pages of datasets: the gallery, one image, class balance and downloads."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.dashboard.card_rows import Row, card_rows
from api.dashboard.class_balance import class_shares, kept_shares
from api.dashboard.downloads import of_dataset
from api.dashboard.formatting import ago, count, number, percent
from api.dashboard.page import PageRoute, page, query
from api.dependencies import IdPath, IndexPath, ReadDep, WorkDep
from api.pagination import PagingDep, encode_cursor
from service import datasets, jobs, students
from service.job_spec import ExportSpec
from service.tables import Dataset
from service.unit_of_work import Work

Sort = Literal["index", "uncertainty", "certainty"]
Show = Literal["all", "kept", "dropped"]
SORTS: Sequence[tuple[Sort, str]] = (
    ("index", "In order"),
    ("uncertainty", "Most uncertain"),
    ("certainty", "Most certain"),
)
SHOWS: Sequence[tuple[Show, str]] = (("all", "All"), ("kept", "Kept"), ("dropped", "Dropped"))
KEPT: dict[Show, bool | None] = {"all": None, "kept": True, "dropped": False}
#: Fills rows of two, three, four, six and eight.
IMAGES_PER_PAGE = 48
#: Of a deleted dataset.
NUM_STUDENTS = 50
#: Shown as bars, or too long for a card.
HIDDEN = ("classes", "class_balance", "class_pixels", "spec", "job_id", "digest", "sha256", "id")
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/datasets")
def dataset_list(request: Request, work: ReadDep, paging: PagingDep) -> HTMLResponse:
    """Datasets, newest first."""
    rows = datasets.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return page(
        request,
        "datasets.html",
        section="datasets",
        datasets=[(row, _num_images(work, row)) for row in rows.items],
        first_page=paging.after is None,
        next_url=f"/datasets{query(cursor=cursor)}" if cursor else None,
    )


@router.get("/datasets/{dataset_id}")
def dataset_page(
    request: Request,
    work: ReadDep,
    dataset_id: IdPath,
    paging: PagingDep,
    sort: Annotated[Sort, Query()] = "index",
    show: Annotated[Show, Query()] = "all",
) -> HTMLResponse:
    """One dataset and its gallery."""
    dataset = datasets.get(work, dataset_id, deleted=True)
    if dataset.deleted_at is not None:
        return _deleted_page(request, work, dataset)
    images = datasets.list_images(
        work, dataset_id, sort=sort, kept=KEPT[show], after=paging.after, limit=min(paging.limit, IMAGES_PER_PAGE)
    )
    cursor = encode_cursor(images.next_after)
    return page(
        request,
        "dataset.html",
        section="datasets",
        title=dataset.name,
        dataset=dataset,
        num_images=_num_images(work, dataset),
        rows=_rows(work, dataset),
        balance_rows=kept_shares(dataset.classes, dataset.statistics),
        downloads=of_dataset(work, dataset),
        expired=[item for item in datasets.exports(work, dataset_id) if datasets.has_expired(work, item)],
        has_job=jobs.get(work, dataset.job_id, deleted=True).deleted_at is None,
        shards=datasets.shards(work, dataset_id),
        images=images.items,
        sort=sort,
        show=show,
        sorts=SORTS,
        shows=SHOWS if dataset.state == "sealed" else SHOWS[:1],
        first_page=paging.after is None,
        next_url=query(sort=sort, show=show, cursor=cursor) if cursor else None,
    )


def _deleted_page(request: Request, work: Work, dataset: Dataset) -> HTMLResponse:
    """What is left of a dataset, and what came from it."""
    return page(
        request,
        "dataset_deleted.html",
        section="datasets",
        title=dataset.name,
        dataset=dataset,
        rows=_rows(work, dataset),
        balance_rows=kept_shares(dataset.classes, dataset.statistics),
        students=students.list_page(work, dataset_id=dataset.id, limit=NUM_STUDENTS).items,
    )


@router.get("/datasets/{dataset_id}/images/{index}")
def dataset_image_page(request: Request, work: ReadDep, dataset_id: IdPath, index: IndexPath) -> HTMLResponse:
    """One image, large, with its labels."""
    dataset = datasets.get(work, dataset_id)
    image = datasets.get_image(work, dataset_id, index)
    decided = None if image.kept is None else "kept" if image.kept else "dropped as too uncertain"
    return page(
        request,
        "dataset_image.html",
        section="datasets",
        title=f"Image {index} of {dataset.name}",
        dataset=dataset,
        num_images=_num_images(work, dataset),
        image=image,
        rows=[
            ("Uncertainty", number(image.uncertainty)),
            ("Decision", decided),
            ("Weight in training", None if image.weight is None else number(image.weight)),
            ("Shard", f"{image.shard_index:05}"),
            ("Name", image.name),
        ],
        balance_rows=class_shares(dataset.classes, image.class_pixels),
    )


@router.post("/datasets/{dataset_id}/export")
def export_dataset(work: WorkDep, dataset_id: IdPath) -> Response:
    """Make the COCO zip anew and show the job that does it."""
    dataset = datasets.get(work, dataset_id)
    made = jobs.create(work, ExportSpec(kind="export", dataset_id=dataset.id))
    return RedirectResponse(f"/jobs/{made.job.id}", status_code=303)


@router.post("/datasets/{dataset_id}/delete")
def delete_dataset(work: WorkDep, dataset_id: IdPath) -> Response:
    """Delete and show those that are left."""
    datasets.delete(work, dataset_id)
    return RedirectResponse("/datasets", status_code=303)


def _num_images(work: Work, dataset: Dataset) -> int:
    """Until it is sealed a dataset's own number is not written yet."""
    return dataset.num_images if dataset.state == "sealed" else datasets.num_recorded(work, dataset.id)


def _rows(work: Work, dataset: Dataset) -> list[Row]:
    images = _num_images(work, dataset)
    kept = dataset.num_kept
    spread = dataset.statistics.get("uncertainty") or {}
    share = f", {percent(kept / images)}" if kept and images else ""
    return [
        ("Images", f"{count(images)} of {dataset.image_width}×{dataset.image_height}"),
        ("Kept", None if kept is None else f"{count(kept)}{share}"),
        *_pools(dataset),
        ("Median uncertainty", number(spread["50"]) if "50" in spread else None),
        *card_rows(dataset.card, skip=HIDDEN),
        ("Made", ago(dataset.created_at)),
        ("Deleted", None if dataset.deleted_at is None else ago(dataset.deleted_at)),
        ("Id", dataset.id),
    ]


def _pools(dataset: Dataset) -> list[Row]:
    """Kept of made, for each pool the images come from."""
    pools: dict[str, dict[str, int]] = dataset.statistics.get("pools") or {}
    return [
        (name.capitalize(), f"{count(row['num_kept'])} of {count(row['num_images'])} kept")
        for name, row in pools.items()
    ]
