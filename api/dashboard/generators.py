"""Pages of generators: sample sheets and cards."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.dashboard.card_rows import Row, card_rows
from api.dashboard.formatting import count, title
from api.dashboard.page import PageRoute, page, query
from api.dashboard.trained_generator import trained_rows
from api.dependencies import IdPath, ReadDep, WorkDep
from api.pagination import PagingDep, encode_cursor
from service import generators, jobs
from service.tables import Generator

DRAWN = ("curves", "looks")
"""What the charts show."""
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/generators")
def generator_list(request: Request, work: ReadDep, paging: PagingDep) -> HTMLResponse:
    """Generators, newest first."""
    rows = generators.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return page(
        request,
        "generators.html",
        section="generators",
        generators=rows.items,
        sheets=generators.with_sheets(work, rows.items),
        first_page=paging.after is None,
        next_url=f"/generators{query(cursor=cursor)}" if cursor else None,
    )


@router.get("/generators/{generator_id}")
def generator_page(request: Request, work: ReadDep, generator_id: IdPath) -> HTMLResponse:
    """One generator."""
    generator = generators.get(work, generator_id)
    undrawn = {name: value for name, value in generator.card.items() if name not in DRAWN}
    return page(
        request,
        "generator.html",
        section="generators",
        title=generator.name,
        generator=generator,
        has_job=generator.job_id is not None and jobs.get(work, generator.job_id, deleted=True).deleted_at is None,
        sheets=generators.with_sheets(work, [generator]),
        rows=_rows(generator),
        card_json=json.dumps(undrawn, indent=2, ensure_ascii=False),
    )


@router.post("/generators/{generator_id}/delete")
def delete_generator(work: WorkDep, generator_id: IdPath) -> Response:
    """Delete and show those that are left."""
    generators.delete(work, generator_id)
    return RedirectResponse("/generators", status_code=303)


def _size(generator: Generator) -> str:
    return f"{generator.image_width}×{generator.image_height}" if generator.image_height else "of any size"


def _rows(generator: Generator) -> list[Row]:
    parameters: Any = count(generator.num_parameters) if generator.num_parameters else None
    return [
        ("Family", title(generator.family)),
        ("Images", f"{_size(generator)}, {generator.image_channels} channels"),
        ("Parameters", parameters),
        *(trained_rows(generator.card) or card_rows(generator.card, skip=DRAWN)),
        ("Digest", generator.digest),
        ("Id", generator.id),
    ]
