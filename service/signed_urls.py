"""Addresses that let anyone download one object for a short while, signed by this service.

For stores that cannot sign for themselves, which is a folder. The signature binds the method, the key, the name that the
file gets and the end of its time, by HMAC-SHA256 with a secret that all API processes of a database share.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from service import object_keys
from service.bootstrap import Factory
from service.clock import read_clock
from service.errors import Forbidden, Gone
from service.references import referenced
from service.tables import ServerSecret
from service.unit_of_work import Work

SECRET = "signed-urls"
MAX_SECONDS = 900


@dataclass(frozen=True)
class Grant:
    """What a signature allows."""

    method: str
    """HTTP method."""
    key: str
    """The object."""
    filename: str
    """What the file is called outside."""
    media_type: str
    """What it is."""
    sha256: str
    """Hex digest of its bytes; empty where nobody knows it."""
    expires: int
    """End of its time, in seconds since 1970 on the database's clock."""


def expiry(work: Work, seconds: int) -> datetime:
    """A whole second at most so far from now."""
    return (read_clock(work.session) + timedelta(seconds=min(seconds, MAX_SECONDS))).replace(microsecond=0)


def sign(factory: Factory, grant: Grant) -> str:
    """The signature as hex digits."""
    with factory.read() as work:
        secret = _secret(work)
    if secret is None:
        with factory.work() as work:
            made = text("INSERT INTO server_secrets (name, value) VALUES (:name, :value) ON CONFLICT DO NOTHING")
            work.session.execute(made, {"name": SECRET, "value": secrets.token_hex(32)})
            secret = _secret(work)  # another process may have been first
    assert secret is not None
    return _signature(secret, grant)


def require_valid(work: Work, grant: Grant, signature: str) -> None:
    """Raises Forbidden unless we signed exactly this and its time is not over, Gone when no row names the object."""
    secret = _secret(work)
    expected = _signature(secret, grant) if secret is not None else ""
    if not hmac.compare_digest(expected.encode(), signature.encode()) or not expected:
        raise Forbidden("The signature is not of this method, object and time; ask for a new address.")
    if grant.expires <= read_clock(work.session).timestamp():
        raise Forbidden("The time of this address is over; ask for a new one.")
    key = object_keys.parse(grant.key)
    if key is None or not referenced(work, [key]):
        raise Gone(f"{grant.filename} was deleted or has expired since this address was signed.")


def _secret(work: Work) -> str | None:
    found = work.session.get(ServerSecret, SECRET)
    return None if found is None else found.value


def _signature(secret: str, grant: Grant) -> str:
    # JSON keeps the fields apart: no two grants have one text.
    content = json.dumps(asdict(grant), sort_keys=True).encode()
    return hmac.new(bytes.fromhex(secret), content, hashlib.sha256).hexdigest()
