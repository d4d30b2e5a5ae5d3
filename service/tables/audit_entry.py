"""Who did what."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base
from service.tables.owned import Owned


class AuditEntry(Owned, Base):
    """One change that somebody made or was refused; never changes."""

    __tablename__ = "audit_entries"
    __table_args__ = (Index(None, "workspace_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    api_key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    """Empty for the operator at the machine itself."""
    actor: Mapped[str] = mapped_column(String(120))
    """The key's name at that time."""
    operation: Mapped[str] = mapped_column(String(60))
    """As the OpenAPI document calls it; for a page, the name of its action."""
    object_id: Mapped[str | None] = mapped_column(String(120))
    """What it was done to, or what it made."""
    outcome: Mapped[str] = mapped_column(String(8))
    """`done` or `refused`."""
    status: Mapped[int | None]
    """HTTP status of a refusal."""
    address: Mapped[str | None] = mapped_column(String(64))
    """Where the request came from, as the server saw it."""
    request_id: Mapped[str | None] = mapped_column(String(64))
    """Finds the request in the service's log."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
