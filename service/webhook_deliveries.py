"""Deliveries of webhooks: claimed under a lease, signed, tried on a schedule, recorded once.

At least once: whoever is killed between the receiver's answer and the record leaves a lease that runs out, and the same
message goes out again under the same id. One message at a time goes to one webhook, so that a dead receiver holds up nobody.
The order of locks is always webhook, then delivery; a claim takes the delivery alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Select, and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import aliased
from standardwebhooks import Webhook as Signer

from service import announcements, webhooks
from service.announcements import PING
from service.clock import database_now, read_clock
from service.errors import LeaseLost, NotFound
from service.lookup import find
from service.paging import Page, newest_first
from service.tables import Webhook, WebhookDelivery
from service.unit_of_work import Work

STATES = ("pending", "delivered", "failed")
HOUR = 3_600.0
PAUSES = (5.0, 300.0, 1_800.0, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR)
"""Seconds from each failed attempt to the next; Standard Webhooks recommends these."""
JITTER = 0.1
"""Up to this share more, so that the messages of one outage do not come back as one."""
MAX_ATTEMPTS = len(PAUSES) + 1
FAILING_SECONDS = 3 * 24 * HOUR
"""A webhook to which nothing was delivered for this long is disabled with its next message that is given up."""
LEASE_TIMEOUTS = 4
"""The lease of an attempt in timeouts: looking up the name and the exchange take one each at most."""
KEPT_SECONDS = 30 * 24 * HOUR
"""Messages that are delivered or given up can be looked at for this long."""
GONE = 410


@dataclass(frozen=True)
class ClaimedDelivery:
    """A message that this process is to send now."""

    id: str
    """The message; the same in all its attempts."""
    webhook_id: str
    """Whom it goes to."""
    token: int
    """Proves that this process may record the attempt."""
    attempt: int
    """1 for the first."""
    url: str
    """Where to send it."""
    event_type: str
    """What it tells."""
    body: bytes
    """What to send."""
    claimed_at: datetime
    """The attempt's time on the database's clock."""
    secrets: tuple[str, ...] = field(repr=False)
    """Keys to sign with, the newest first."""

    def headers(self) -> dict[str, str]:
        """Id, time and signatures, one for each secret that holds (Standard Webhooks 1.0)."""
        text = self.body.decode()
        signatures = [Signer(secret).sign(self.id, self.claimed_at, text) for secret in self.secrets]
        return {
            "webhook-id": self.id,
            "webhook-timestamp": str(int(self.claimed_at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def get(work: Work, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """One delivery of a webhook. Raises NotFound."""
    webhooks.get(work, webhook_id)
    row = find(work, WebhookDelivery, delivery_id)
    if row is None or row.webhook_id != webhook_id:
        raise NotFound(f"The webhook {webhook_id} has no delivery {delivery_id[:60]}.")
    return row


def list_page(
    work: Work, webhook_id: str, *, state: str | None = None, after: str | None = None, limit: int = 50
) -> Page[WebhookDelivery]:
    """Deliveries of a webhook, newest first. Raises NotFound."""
    webhooks.get(work, webhook_id)
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    return newest_first(work, query, WebhookDelivery.id, after=after, limit=limit)


def max_attempts(row: WebhookDelivery) -> int:
    """How often a message is tried before it is given up."""
    return 1 if row.event_type == PING else MAX_ATTEMPTS


def counts(work: Work) -> dict[str, int]:
    """Number of deliveries in each state."""
    query = select(WebhookDelivery.state, func.count()).group_by(WebhookDelivery.state)
    return dict(work.session.execute(query).tuples().all())


def ping(work: Work, webhook_id: str) -> WebhookDelivery:
    """Send a webhook a message that tells nothing, once. Raises NotFound, Conflict when it is disabled."""
    row = webhooks.lock(work, webhook_id)
    webhooks.require_enabled(work, row)
    return announcements.add(work, row, PING, {"webhook_id": row.id}, read_clock(work.session))


def redeliver(work: Work, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Send a message at once, with all its attempts before it again and under its own id.

    One that is being sent at this moment is left alone. Raises NotFound, Conflict when the webhook is disabled.
    """
    webhooks.require_enabled(work, webhooks.lock(work, webhook_id))
    get(work, webhook_id, delivery_id)
    row = _lock(work, delivery_id)
    now = read_clock(work.session)
    if row is None:
        raise NotFound(f"The webhook {webhook_id} has no delivery {delivery_id}.")
    if row.lease_until is None or row.lease_until < now:
        row.state, row.attempts, row.next_attempt_at = "pending", 0, now
        row.lease_until = row.finished_at = None
        work.session.flush()
    return row


def is_any_due(work: Work) -> bool:
    """Whether `claim` would find something; only reads."""
    return work.session.execute(select(exists(_due_ids()))).scalar_one()


def claim(work: Work) -> ClaimedDelivery | None:
    """Take the message that is due longest, new or lost by a killed process; None if there is none."""
    lease = work.settings.webhook_timeout_seconds * LEASE_TIMEOUTS
    first = _due_ids().order_by(WebhookDelivery.next_attempt_at, WebhookDelivery.id).limit(1)
    taken = (
        update(WebhookDelivery)
        .where(
            WebhookDelivery.id
            == first.with_for_update(skip_locked=True, key_share=True, of=WebhookDelivery).scalar_subquery()
        )
        .values(
            token=WebhookDelivery.token + 1,
            attempts=WebhookDelivery.attempts + 1,
            lease_until=database_now(lease),
            last_attempt_at=database_now(),
        )
        .returning(WebhookDelivery)
    )
    options = {"synchronize_session": False, "populate_existing": True}
    row = work.session.scalars(taken, execution_options=options).one_or_none()
    if row is None:
        return None
    if row.attempts > MAX_ATTEMPTS:
        # Whoever sent it was killed time and again, and nobody was left to count.
        row.state, row.last_error, row.lease_until = "failed", "whoever sent it was killed, every time", None
        row.finished_at = read_clock(work.session)
        work.session.flush()
        return claim(work)
    webhook = work.session.get_one(Webhook, row.webhook_id)
    assert row.last_attempt_at is not None
    return ClaimedDelivery(
        id=row.id,
        webhook_id=row.webhook_id,
        token=row.token,
        attempt=row.attempts,
        url=webhook.url,
        event_type=row.event_type,
        body=row.body.encode(),
        claimed_at=row.last_attempt_at,
        secrets=_secrets(webhook, row.last_attempt_at),
    )


def record_success(work: Work, claimed: ClaimedDelivery, status: int) -> None:
    """The receiver has the message. Raises NotFound, LeaseLost."""
    webhook, row = _hold(work, claimed)
    row.state, row.last_status, row.last_error = "delivered", status, None
    row.finished_at, row.lease_until = read_clock(work.session), None
    webhook.failing_since = None
    work.session.flush()


def record_failure(work: Work, claimed: ClaimedDelivery, error: str, status: int | None = None) -> WebhookDelivery:
    """The attempt failed: try again later, or give the message up, or the whole webhook. Raises NotFound, LeaseLost."""
    webhook, row = _hold(work, claimed)
    now = read_clock(work.session)
    row.last_status, row.last_error, row.lease_until = status, error[:500], None
    if row.event_type != PING:
        webhook.failing_since = webhook.failing_since or now
    if row.state == "pending" and row.attempts < max_attempts(row) and status != GONE:
        pause = PAUSES[row.attempts - 1] * random.uniform(1, 1 + JITTER)
        row.next_attempt_at = now + timedelta(seconds=pause)
    else:
        row.state, row.finished_at = "failed", now
        work.session.flush()
        _disable_dead(work, webhook, status, now)
    work.session.flush()
    return row


def prune(work: Work) -> int:
    """Forget messages that were delivered or given up long ago; how many."""
    old = and_(WebhookDelivery.state != "pending", WebhookDelivery.finished_at < database_now(-KEPT_SECONDS))
    gone = work.session.execute(delete(WebhookDelivery).where(old).returning(WebhookDelivery.id))
    return len(gone.all())


def _due_ids() -> Select[str]:
    now = database_now()
    other = aliased(WebhookDelivery)
    at_it = exists().where(other.webhook_id == WebhookDelivery.webhook_id, other.lease_until >= now)
    return (
        select(WebhookDelivery.id)
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(
            WebhookDelivery.state == "pending",
            WebhookDelivery.next_attempt_at <= now,
            or_(WebhookDelivery.lease_until.is_(None), WebhookDelivery.lease_until < now),
            Webhook.state == "enabled",
            ~at_it,
        )
    )


def _hold(work: Work, claimed: ClaimedDelivery) -> tuple[Webhook, WebhookDelivery]:
    webhook = webhooks.lock(work, claimed.webhook_id)
    row = _lock(work, claimed.id)
    if row is None or row.token != claimed.token or row.lease_until is None:
        raise LeaseLost(f"Another process sends the message {claimed.id} by now, or it is gone.")
    return webhook, row


def _lock(work: Work, delivery_id: str) -> WebhookDelivery | None:
    query = select(WebhookDelivery).where(WebhookDelivery.id == delivery_id).with_for_update(key_share=True)
    return work.session.scalars(query, execution_options={"populate_existing": True}).one_or_none()


def _secrets(webhook: Webhook, now: datetime) -> tuple[str, ...]:
    until = webhook.previous_secret_until
    if webhook.previous_secret is None or until is None or until < now:
        return (webhook.secret,)
    return webhook.secret, webhook.previous_secret


def _disable_dead(work: Work, webhook: Webhook, status: int | None, now: datetime) -> None:
    if webhook.state != "enabled":
        return
    since = webhook.failing_since
    if status == GONE:
        webhooks.disable(work, webhook, "the receiver answered 410 Gone")
    elif since is not None and now - since >= timedelta(seconds=FAILING_SECONDS):
        webhooks.disable(work, webhook, f"nothing was delivered since {since:%Y-%m-%d %H:%M} UTC")
