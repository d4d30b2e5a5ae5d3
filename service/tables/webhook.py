"""Who is told of what happens, and every message to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base
from service.tables.owned import Owned


class Webhook(Owned, Base):
    """An address that is sent signed messages about events."""

    __tablename__ = "webhooks"
    __table_args__ = (Index(None, "workspace_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    url: Mapped[str] = mapped_column(String(1_000))
    event_types: Mapped[list[Any]]
    """Types of the events it wants."""
    state: Mapped[str] = mapped_column(String(16))
    """`enabled` or `disabled`."""
    disabled_reason: Mapped[str | None] = mapped_column(String(200))
    """Why, where it is disabled."""
    secret: Mapped[str] = mapped_column(String(100))
    """`whsec_` and 32 bytes in base64; kept as it is, because signing needs it."""
    previous_secret: Mapped[str | None] = mapped_column(String(100))
    """Signs as well until `previous_secret_until`."""
    previous_secret_until: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    """The first failed attempt since the last message that was delivered."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class WebhookDelivery(Base):
    """One message to one webhook: made with the event, sent until it is delivered or given up."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(None, "state", "next_attempt_at"),
        Index(None, "webhook_id", "id"),
        Index(None, "webhook_id", "lease_until"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    """The message's id, the same in every attempt: receivers tell repeats by it."""
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    event_type: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text())
    """The JSON that is sent, byte for byte."""
    state: Mapped[str] = mapped_column(String(16))
    """`pending`, `delivered` or `failed`."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Attempts begun since it was made or asked for again."""
    next_attempt_at: Mapped[datetime]
    """When a pending one is due, on the database's clock."""
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    """Grows with every attempt: proves who may record how it went."""
    lease_until: Mapped[datetime | None]
    """Set while somebody sends it."""
    last_status: Mapped[int | None]
    """HTTP status of the last attempt that was answered."""
    last_error: Mapped[str | None] = mapped_column(String(500))
    """Why the last attempt failed."""
    last_attempt_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]
