"""A browser's way in: a session opened by a key, or by a link that works once."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from typing import Literal

from sqlalchemy import delete, select

from service import api_keys
from service.caller import Caller
from service.clock import utc_now
from service.errors import Unauthenticated
from service.tables import ApiKey, SignIn
from service.unit_of_work import Work

LINK_LIFETIME = timedelta(minutes=15)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


def open_link(work: Work, key_id: str) -> str:
    """A token that opens one session of this key within a quarter of an hour. Raises NotFound."""
    row = api_keys.get(work, key_id)
    return _issue(work, row, "link", row.secret_sha256, LINK_LIFETIME)


def open_session(work: Work, secret: str) -> tuple[str, Caller]:
    """A session's token for a key or a link's token, and whose it is; the work must be unbound. Raises Unauthenticated."""
    row, secret_sha256 = api_keys.find(work, secret), api_keys.digest(secret)
    if row is None:
        row, secret_sha256 = _use_link(work, secret)
    found = api_keys.caller(row)
    lifetime = timedelta(seconds=work.settings.session_seconds)
    return _issue(work, row, "session", secret_sha256, lifetime), found


def caller_of_session(work: Work, token: str) -> tuple[Caller, ApiKey]:
    """Whose session this is; the work must be unbound. Raises Unauthenticated, also where its key has ended since."""
    found = _find(work, token, "session")
    if found is None:
        raise Unauthenticated("The session has ended; sign in again.")
    return api_keys.caller(found[1]), found[1]


def close_session(work: Work, token: str) -> None:
    """Sign out; again is no error."""
    change = delete(SignIn).where(SignIn.token_sha256 == api_keys.digest(token))
    work.session.execute(change, execution_options={"synchronize_session": False})


def _use_link(work: Work, token: str) -> tuple[ApiKey, str]:
    """The key behind a link, and the digest of the secret it was made with; the link is gone."""
    link = _find(work, token, "link")
    if link is not None:
        # Of two that come with one link, the database lets one pass.
        used = delete(SignIn).where(SignIn.token_sha256 == link[0].token_sha256).returning(SignIn.token_sha256)
        if work.session.execute(used, execution_options={"synchronize_session": False}).one_or_none() is not None:
            return link[1], link[0].secret_sha256
    raise Unauthenticated("This is no API key of this service, and no sign-in link that still works.")


def _find(work: Work, token: str, kind: Literal["session", "link"]) -> tuple[SignIn, ApiKey] | None:
    if not _TOKEN.fullmatch(token):
        return None
    query = select(SignIn, ApiKey).join(ApiKey, ApiKey.id == SignIn.api_key_id)
    row = work.session.execute(query.where(SignIn.token_sha256 == api_keys.digest(token))).one_or_none()
    if row is None or row[0].kind != kind or row[0].expires_at <= utc_now():
        return None
    return (row[0], row[1]) if api_keys.holds(row[1], row[0].secret_sha256) else None


def _issue(work: Work, row: ApiKey, kind: Literal["session", "link"], secret_sha256: str, lifetime: timedelta) -> str:
    now = utc_now()
    work.session.execute(
        delete(SignIn).where(SignIn.expires_at <= now), execution_options={"synchronize_session": False}
    )
    token = secrets.token_urlsafe(32)
    work.session.add(
        SignIn(
            token_sha256=api_keys.digest(token),
            kind=kind,
            api_key_id=row.id,
            secret_sha256=secret_sha256,
            expires_at=now + lifetime,
        )
    )
    work.session.flush()
    return token
