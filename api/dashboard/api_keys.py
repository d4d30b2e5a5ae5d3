"""Pages of API keys, for admins: make, limit, rotate, revoke; a secret is shown on the one answer that made it."""

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from api.dashboard.page import FormDep, PageRoute, page, query, read_form
from api.dependencies import ForAdmins, IdPath, ReadDep, WorkDep
from api.pagination import PagingDep, encode_cursor
from api.v1.api_keys import ApiKeyChange, NewApiKey, Rotation
from service import api_keys, usage
from service.caller import SCOPES
from service.tables import ApiKey
from service.unit_of_work import Work

WORDS = {
    "read": "look at everything and download it",
    "write": "also upload, submit, cancel and retry",
    "admin": "also make, change and end keys, and read the audit log",
}
OVERLAPS = (("0", "at once"), ("3600", "in an hour"), ("86400", "in a day"), ("604800", "in a week"))
LIFETIMES = (("", "until it is revoked"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"))
GIGABYTE = 10**9
GIGABYTES = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
router = APIRouter(include_in_schema=False, route_class=PageRoute, dependencies=[ForAdmins])


@router.get("/keys")
def api_key_list(request: Request, work: ReadDep, paging: PagingDep) -> Response:
    """Keys of the workspace, newest first."""
    rows = api_keys.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return page(
        request,
        "api_keys.html",
        section="keys",
        keys=[(row, api_keys.ended(row)) for row in rows.items],
        scopes=[(scope, WORDS[scope]) for scope in SCOPES],
        lifetimes=LIFETIMES,
        first_page=paging.after is None,
        next_url=f"/keys{query(cursor=cursor)}" if cursor else None,
    )


@router.post("/keys")
def create_api_key(request: Request, work: WorkDep, form: FormDep) -> Response:
    """Make a key and show it."""
    days = form.get("days") or None
    wanted = read_form(
        NewApiKey, name=form.get("name", ""), scope=form.get("scope", ""), days=_number(days), **_limits(form)
    )
    lifetime = None if wanted.days is None else timedelta(days=wanted.days)
    limits = api_keys.Limits(max_stored_bytes=wanted.max_stored_bytes, max_active_jobs=wanted.max_active_jobs)
    made = api_keys.create(work, wanted.name, wanted.scope, lifetime=lifetime, **limits)
    return _key_page(request, work, made.row, made.key)


@router.get("/keys/{key_id}")
def api_key_page(request: Request, work: ReadDep, key_id: IdPath) -> Response:
    """One key, what it uses of its limits, and what can be done to it."""
    return _key_page(request, work, api_keys.get(work, key_id))


@router.post("/keys/{key_id}/update")
def update_api_key(work: WorkDep, key_id: IdPath, form: FormDep) -> Response:
    """Change a key's name and limits."""
    wanted = read_form(ApiKeyChange, **({"name": form["name"]} if "name" in form else {}), **_limits(form))
    api_keys.change(work, key_id, **wanted.sent)
    return RedirectResponse(f"/keys/{key_id}", status_code=303)


@router.post("/keys/{key_id}/rotate")
def rotate_api_key(request: Request, work: WorkDep, key_id: IdPath, form: FormDep) -> Response:
    """Give a key a new secret and show it."""
    wanted = read_form(Rotation, overlap_seconds=_number(form.get("overlap_seconds", "0")))
    made = api_keys.rotate(work, key_id, overlap=timedelta(seconds=wanted.overlap_seconds))
    return _key_page(request, work, made.row, made.key)


@router.post("/keys/{key_id}/revoke")
def revoke_api_key(work: WorkDep, key_id: IdPath) -> Response:
    """End a key."""
    api_keys.revoke(work, key_id)
    return RedirectResponse("/keys", status_code=303)


def _key_page(request: Request, work: Work, row: ApiKey, secret: str | None = None) -> Response:
    return page(
        request,
        "api_key.html",
        section="keys",
        key=row,
        ended=api_keys.ended(row),
        secret=secret,
        words=WORDS[row.scope],
        used=usage.of_key(work, row),
        gigabytes="" if row.max_stored_bytes is None else _gigabytes(row.max_stored_bytes),
        overlaps=OVERLAPS,
    )


def _gigabytes(num_bytes: int) -> str:
    """Bytes as the form has them, to the byte."""
    return f"{Decimal(num_bytes) / GIGABYTE:f}"


def _limits(form: Mapping[str, str]) -> dict[str, Any]:
    """The limits that a form names, as the model has them; an empty field is no limit."""
    limits: dict[str, Any] = {}
    if (text := form.get("max_stored_gigabytes")) is not None:
        exact = Decimal(text) * GIGABYTE if GIGABYTES.fullmatch(text) else None
        limits["max_stored_bytes"] = (text or None) if exact is None else int(exact)
    if (text := form.get("max_active_jobs")) is not None:
        limits["max_active_jobs"] = _number(text or None)
    return limits


def _number(text: str | None) -> Any:
    return int(text) if text is not None and text.isascii() and text.isdecimal() and len(text) < 10 else text
