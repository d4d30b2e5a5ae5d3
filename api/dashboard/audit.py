"""The page of the audit log, for admins."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.dashboard.formatting import title
from api.dashboard.page import PageRoute, page, query
from api.dependencies import ForAdmins, ReadDep
from api.pagination import PagingDep, encode_cursor
from service import audit

#: Prefix of an id -> where its noun has pages.
PAGES = {
    "gen": "generators",
    "ann": "annotation-sets",
    "job": "jobs",
    "ds": "datasets",
    "stu": "students",
    "rep": "reports",
    "wh": "webhooks",
    "key": "keys",
}
router = APIRouter(include_in_schema=False, route_class=PageRoute, dependencies=[ForAdmins])


@router.get("/audit")
def audit_list(request: Request, work: ReadDep, paging: PagingDep) -> HTMLResponse:
    """Who did what, newest first."""
    rows = audit.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return page(
        request,
        "audit.html",
        section="audit",
        entries=[(row, _words(row.operation), _address(row.object_id)) for row in rows.items],
        first_page=paging.after is None,
        next_url=f"/audit{query(cursor=cursor)}" if cursor else None,
    )


def _words(operation: str) -> str:
    """`create_api_key` reads Create API key; what met no route stands there as it was asked."""
    words = operation if " " in operation else title(operation)
    return words.replace("api key", "API key").replace("sign in link", "sign-in link")


def _address(object_id: str | None) -> str | None:
    folder = PAGES.get((object_id or "").partition("_")[0])
    return f"/{folder}/{object_id}" if folder else None
