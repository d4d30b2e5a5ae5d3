"""Pages of annotation sets: the few labelled images, with their labels on top."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.dashboard.class_balance import class_shares
from api.dashboard.formatting import ago, count
from api.dashboard.page import PageRoute, page, query
from api.dependencies import IdPath, ReadDep, WorkDep
from api.pagination import PagingDep, encode_cursor
from service import annotation_sets

IMAGES_PER_PAGE = 60
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/annotation-sets")
def annotation_set_list(request: Request, work: ReadDep, paging: PagingDep) -> HTMLResponse:
    """Annotation sets, newest first."""
    rows = annotation_sets.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return page(
        request,
        "annotation_sets.html",
        section="annotations",
        sets=rows.items,
        first_page=paging.after is None,
        next_url=f"/annotation-sets{query(cursor=cursor)}" if cursor else None,
    )


@router.get("/annotation-sets/{annotation_set_id}")
def annotation_set_page(
    request: Request,
    work: ReadDep,
    annotation_set_id: IdPath,
    number: Annotated[int, Query(alias="page", ge=0, le=10**6)] = 0,
) -> HTMLResponse:
    """One set with its images, page by page."""
    item = annotation_sets.get(work, annotation_set_id)
    first = number * IMAGES_PER_PAGE
    return page(
        request,
        "annotation_set.html",
        section="annotations",
        title=item.name,
        item=item,
        rows=[
            ("Images", f"{count(item.num_images)} of {item.image_width}×{item.image_height}"),
            ("Kind", f"{item.kind} masks"),
            ("Instances", count(n) if (n := item.statistics.get("num_instances")) else None),
            ("Made", ago(item.created_at)),
            ("Id", item.id),
        ],
        balance_rows=class_shares(item.classes, item.statistics.get("class_pixels")),
        indices=range(first, min(first + IMAGES_PER_PAGE, item.num_images)),
        number=number,
        pages=-(-item.num_images // IMAGES_PER_PAGE),
    )


@router.post("/annotation-sets/{annotation_set_id}/delete")
def delete_annotation_set(work: WorkDep, annotation_set_id: IdPath) -> Response:
    """Delete and show those that are left."""
    annotation_sets.delete(work, annotation_set_id)
    return RedirectResponse("/annotation-sets", status_code=303)
