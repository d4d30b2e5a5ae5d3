"""The page of API keys, for admins: make, rotate, revoke; a secret is shown on the one answer that made it."""

from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from api.dashboard.page import FormDep, PageRoute, page, query, read_form
from api.dependencies import ForAdmins, IdPath, ReadDep, WorkDep
from api.pagination import PagingDep, encode_cursor
from api.v1.api_keys import NewApiKey, Rotation
from service import api_keys
from service.api_keys import IssuedKey
from service.caller import SCOPES
from service.tables import ApiKey
from service.unit_of_work import Work

WORDS = {
    "read": "look at everything and download it",
    "write": "also upload, submit, cancel and retry",
    "admin": "also make and end keys, and read the audit log",
}
OVERLAPS = (("0", "at once"), ("3600", "in an hour"), ("86400", "in a day"), ("604800", "in a week"))
LIFETIMES = (("", "until it is revoked"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"))
router = APIRouter(include_in_schema=False, route_class=PageRoute, dependencies=[ForAdmins])


@router.get("/keys")
def api_key_list(request: Request, work: ReadDep, paging: PagingDep) -> Response:
    """Keys of the workspace, newest first."""
    rows = api_keys.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return _page(
        request, rows.items, first=paging.after is None, following=f"/keys{query(cursor=cursor)}" if cursor else None
    )


@router.post("/keys")
def create_api_key(request: Request, work: WorkDep, form: FormDep) -> Response:
    """Make a key and show it."""
    days = form.get("days") or None
    wanted = read_form(NewApiKey, name=form.get("name", ""), scope=form.get("scope", ""), days=_number(days))
    lifetime = None if wanted.days is None else timedelta(days=wanted.days)
    return _with_secret(request, work, api_keys.create(work, wanted.name, wanted.scope, lifetime=lifetime))


@router.post("/keys/{key_id}/rotate")
def rotate_api_key(request: Request, work: WorkDep, key_id: IdPath, form: FormDep) -> Response:
    """Give a key a new secret and show it."""
    wanted = read_form(Rotation, overlap_seconds=_number(form.get("overlap_seconds", "0")))
    overlap = timedelta(seconds=wanted.overlap_seconds)
    return _with_secret(request, work, api_keys.rotate(work, key_id, overlap=overlap))


@router.post("/keys/{key_id}/revoke")
def revoke_api_key(work: WorkDep, key_id: IdPath) -> Response:
    """End a key."""
    api_keys.revoke(work, key_id)
    return RedirectResponse("/keys", status_code=303)


def _with_secret(request: Request, work: Work, made: IssuedKey) -> Response:
    rows = api_keys.list_page(work)
    cursor = encode_cursor(rows.next_after)
    return _page(request, rows.items, made=made, following=f"/keys{query(cursor=cursor)}" if cursor else None)


def _page(
    request: Request, rows: list[ApiKey], *, made: IssuedKey | None = None, first: bool = True, following: str | None
) -> Response:
    return page(
        request,
        "api_keys.html",
        section="keys",
        keys=[(row, api_keys.ended(row)) for row in rows],
        made=made,
        scopes=[(scope, WORDS[scope]) for scope in SCOPES],
        overlaps=OVERLAPS,
        lifetimes=LIFETIMES,
        first_page=first,
        next_url=following,
    )


def _number(text: str | None) -> Any:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else text
