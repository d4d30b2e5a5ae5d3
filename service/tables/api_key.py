"""A key that opens a workspace."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base
from service.tables.owned import Owned


class ApiKey(Owned, Base):
    """A key: its prefix is how it is found, of its secret only a digest is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "workspace_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    scope: Mapped[str] = mapped_column(String(8))
    """`read`, `write` (and read) or `admin` (and both)."""
    prefix: Mapped[str] = mapped_column(String(8), unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    former_sha256: Mapped[str | None] = mapped_column(String(64))
    """The secret before the last rotation, which holds until `former_until`."""
    former_until: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    """Empty: holds until it is revoked."""
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    """To the minute."""
    max_stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """Most bytes that what it brought or asked for takes; empty: only the workspace's limit holds."""
    max_active_jobs: Mapped[int | None]
    """Most of its jobs that go on at a time; empty: only the workspace's limit holds."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
