"""Webhooks: addresses that are told what happens, by signed messages (Standard Webhooks)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, get_args

from sqlalchemy import func, select, update

from service import egress
from service.clock import read_clock
from service.egress import EgressRefused
from service.errors import Conflict, Invalid, NotFound, fault
from service.ids import new_id
from service.lookup import must_find
from service.paging import Page, newest_first
from service.tables import Webhook, WebhookDelivery
from service.unit_of_work import Work

EventType = Literal[
    "job.succeeded", "job.failed", "job.cancelled", "dataset.sealed", "student.ready", "generator.ready"
]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
MAX_WEBHOOKS = 50
SECRET_BYTES = 32
OVERLAP_SECONDS = 86_400
"""A replaced secret signs beside its successor for this long."""
OFF = "Webhooks are off; the operator turns them on with LABEL_FACTORY_WEBHOOKS=true."
BY_HAND = "disabled by hand"


def create(work: Work, url: str, event_types: Sequence[EventType]) -> Webhook:
    """Make a webhook with a fresh secret. Raises Conflict when webhooks are off or too many, Invalid for its address."""
    _require_on(work)
    if work.session.execute(select(func.count()).select_from(Webhook)).scalar_one() >= MAX_WEBHOOKS:
        raise Conflict(f"There are {MAX_WEBHOOKS} webhooks already; delete one first.")
    _check_url(work, url)
    row = Webhook(
        id=new_id("wh"),
        url=url,
        event_types=list(dict.fromkeys(event_types)),
        state="enabled",
        secret=_new_secret(),
    )
    work.session.add(row)
    work.session.flush()
    return row


def get(work: Work, webhook_id: str) -> Webhook:
    """One webhook. Raises NotFound."""
    return must_find(work, Webhook, webhook_id, "webhook")


def lock(work: Work, webhook_id: str) -> Webhook:
    """Lock a webhook's row until the commit and read it afresh; always before its deliveries. Raises NotFound."""
    get(work, webhook_id)
    query = select(Webhook).where(Webhook.id == webhook_id).with_for_update(key_share=True)
    row = work.session.scalars(query, execution_options={"populate_existing": True}).one_or_none()
    if row is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return row


def list_page(work: Work, *, after: str | None = None, limit: int = 50) -> Page[Webhook]:
    """Webhooks, newest first."""
    return newest_first(work, select(Webhook), Webhook.id, after=after, limit=limit)


def change(
    work: Work,
    webhook_id: str,
    *,
    url: str | None = None,
    event_types: Sequence[EventType] | None = None,
    enabled: bool | None = None,
) -> Webhook:
    """Change what is given. Raises NotFound, Conflict when webhooks are off, Invalid for its address."""
    row = lock(work, webhook_id)
    _require_on(work)
    if url is not None:
        _check_url(work, url)
        row.url = url
    if event_types is not None:
        row.event_types = list(dict.fromkeys(event_types))
    if enabled is True:
        row.state, row.disabled_reason, row.failing_since = "enabled", None, None
    elif enabled is False and row.state == "enabled":
        disable(work, row, BY_HAND)
    work.session.flush()
    return row


def disable(work: Work, row: Webhook, reason: str) -> None:
    """Send nothing more to a webhook; what waits for it fails, and can be asked for again. The caller holds its lock."""
    row.state, row.disabled_reason = "disabled", reason
    waiting = (WebhookDelivery.webhook_id == row.id, WebhookDelivery.state == "pending")
    # One that is being sent keeps its lease: how that attempt goes is still recorded.
    values = {
        "state": "failed",
        "last_error": f"the webhook is disabled: {reason}",
        "finished_at": read_clock(work.session),
    }
    work.session.execute(update(WebhookDelivery).where(*waiting).values(values))
    work.session.flush()


def delete(work: Work, webhook_id: str) -> None:
    """Remove a webhook and all its deliveries. Raises NotFound."""
    work.session.delete(get(work, webhook_id))
    work.session.flush()


def rotate_secret(work: Work, webhook_id: str) -> Webhook:
    """Give a webhook a new secret; the old one signs beside it for a day. Raises NotFound."""
    row = lock(work, webhook_id)
    row.previous_secret, row.secret = row.secret, _new_secret()
    row.previous_secret_until = read_clock(work.session) + timedelta(seconds=OVERLAP_SECONDS)
    work.session.flush()
    return row


def require_enabled(work: Work, row: Webhook) -> None:
    """Raise Conflict unless messages go to this webhook."""
    _require_on(work)
    if row.state != "enabled":
        raise Conflict(f"The webhook {row.id} is disabled ({row.disabled_reason}); enable it first.")


def _require_on(work: Work) -> None:
    if not work.settings.webhooks:
        raise Conflict(OFF)


def _check_url(work: Work, url: str) -> None:
    try:
        egress.parse_target(url, work.settings)
    except EgressRefused as error:
        raise Invalid("The address cannot be a webhook's.", [fault("url", error.detail)]) from None


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
