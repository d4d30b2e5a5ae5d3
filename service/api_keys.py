"""API keys: made with a secret that is shown once, recognised by its digest, changed, rotated, revoked."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypedDict, Unpack, cast

from sqlalchemy import or_, select, update

from service.caller import Caller, Scope
from service.clock import utc_now
from service.errors import Conflict, Unauthenticated
from service.ids import ALPHABET, new_id
from service.lookup import must_find
from service.paging import Page, newest_first
from service.tables import ApiKey
from service.unit_of_work import Work

_KEY = re.compile(r"lf_([0-9a-z]{8})_[A-Za-z0-9_-]{43}")
SECRET_BYTES = 32
NOTED_EVERY = timedelta(minutes=1)
"""A key's last use is written at most this often: reading must not become writing."""


@dataclass(frozen=True)
class IssuedKey:
    """A key and, this once, what to send."""

    row: ApiKey
    """What is kept."""
    key: str
    """`lf_<prefix>_<secret>`; nobody can tell it again."""


class Limits(TypedDict, total=False):
    """What one key may take; None: only the workspace's limit holds."""

    max_stored_bytes: int | None
    """Most bytes that what it brought or asked for takes."""
    max_active_jobs: int | None
    """Most of its jobs that go on at a time."""


def create(
    work: Work,
    name: str,
    scope: Scope,
    *,
    lifetime: timedelta | None = None,
    workspace_id: str | None = None,
    **limits: Unpack[Limits],
) -> IssuedKey:
    """Make a key of the workspace that the work is bound to; an unbound work names it."""
    row = ApiKey(
        id=new_id("key"),
        workspace_id=workspace_id or work.session.workspace_id,
        name=name,
        scope=scope,
        prefix="".join(secrets.choice(ALPHABET) for _ in range(8)),
        expires_at=None if lifetime is None else utc_now() + lifetime,
        **limits,
    )
    key = _new_secret(row)
    work.session.add(row)
    work.session.flush()
    return IssuedKey(row, key)


def get(work: Work, key_id: str) -> ApiKey:
    """One key. Raises NotFound."""
    return must_find(work, ApiKey, key_id, "API key")


def list_page(work: Work, *, after: str | None = None, limit: int = 50) -> Page[ApiKey]:
    """Keys of the workspace, newest first, revoked and expired ones too."""
    return newest_first(work, select(ApiKey), ApiKey.id, after=after, limit=limit)


def change(work: Work, key_id: str, *, name: str | None = None, **limits: Unpack[Limits]) -> ApiKey:
    """Change what is given; limits hold from the commit on. Raises NotFound, Conflict when it is ended."""
    row = _get_held(work, key_id)
    if name is not None:
        row.name = name
    for field, most in limits.items():
        setattr(row, field, most)
    work.session.flush()
    return row


def rotate(work: Work, key_id: str, *, overlap: timedelta = timedelta(0)) -> IssuedKey:
    """Give the key a new secret; the old one holds for `overlap` more. Raises NotFound, Conflict when it is ended."""
    row = _get_held(work, key_id)
    row.former_sha256, row.former_until = (row.secret_sha256, utc_now() + overlap) if overlap else (None, None)
    key = _new_secret(row)
    work.session.flush()
    return IssuedKey(row, key)


def revoke(work: Work, key_id: str) -> ApiKey:
    """End a key for good, and every session that was opened with it; again is no error.

    Raises NotFound, and Conflict when nobody could make a new key afterwards.
    """
    row = get(work, key_id)
    if row.revoked_at is not None:
        return row
    if row.scope == "admin" and not ended(row) and not _other_admins(work, row):
        raise Conflict(f"The key {row.name} is the only admin key of its workspace; make another one first.")
    row.revoked_at = utc_now()
    row.former_sha256, row.former_until = None, None
    work.session.flush()
    return row


def authenticate(work: Work, text: str) -> tuple[Caller, ApiKey]:
    """Whose key this is; the work must be unbound. Raises Unauthenticated."""
    row = find(work, text)
    if row is None:
        raise Unauthenticated("This is no API key of this service.")
    return caller(row), row


def find(work: Work, text: str) -> ApiKey | None:
    """The row of this key, when its secret is right."""
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    row = work.session.scalars(select(ApiKey).where(ApiKey.prefix == match[1])).one_or_none()
    return row if row is not None and holds(row, digest(text)) else None


def caller(row: ApiKey) -> Caller:
    """Who asks with this key. Raises Unauthenticated when it has ended."""
    if row.revoked_at is not None:
        raise Unauthenticated(f"The API key {row.name} was revoked.")
    if ended(row):
        raise Unauthenticated(f"The API key {row.name} has expired.")
    return Caller(key_id=row.id, key_name=row.name, workspace_id=row.workspace_id, scope=cast(Scope, row.scope))


def ended(row: ApiKey) -> bool:
    """Whether the key is revoked or expired."""
    return row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= utc_now())


def holds(row: ApiKey, secret_sha256: str) -> bool:
    """Whether this is the digest of the key's secret, or of the one before while that is allowed."""
    if secrets.compare_digest(row.secret_sha256, secret_sha256):
        return True
    overlaps = row.former_until is not None and utc_now() < row.former_until
    return overlaps and secrets.compare_digest(row.former_sha256 or "", secret_sha256)


def use_is_stale(last_used_at: datetime | None) -> bool:
    """Whether it is time to write down that a key was used."""
    return last_used_at is None or utc_now() - last_used_at >= NOTED_EVERY


def note_use(work: Work, key_id: str) -> None:
    """Write down that the key is in use, unless somebody has just done so."""
    now = utc_now()
    stale = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - NOTED_EVERY)
    change = update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=now)
    work.session.execute(change, execution_options={"synchronize_session": False})


def digest(text: str) -> str:
    """What is kept of a secret: 256 random bits need no slow hash."""
    return hashlib.sha256(text.encode()).hexdigest()


def _get_held(work: Work, key_id: str) -> ApiKey:
    row = get(work, key_id)
    if ended(row):
        raise Conflict(f"The key {row.name} has ended; make a new one.")
    return row


def _new_secret(row: ApiKey) -> str:
    key = f"lf_{row.prefix}_{secrets.token_urlsafe(SECRET_BYTES)}"
    row.secret_sha256 = digest(key)
    return key


def _other_admins(work: Work, row: ApiKey) -> bool:
    query = select(ApiKey).where(
        ApiKey.workspace_id == row.workspace_id,
        ApiKey.scope == "admin",
        ApiKey.id != row.id,
        ApiKey.revoked_at.is_(None),
    )
    return any(not ended(other) for other in work.session.scalars(query))
