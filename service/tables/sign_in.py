"""A browser's way in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base


class SignIn(Base):
    """What a browser holds in place of a key: a session, or a link that opens one session."""

    __tablename__ = "sign_ins"
    __table_args__ = (Index(None, "expires_at"),)

    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(8))
    """`session` or `link`."""
    api_key_id: Mapped[str] = mapped_column(ForeignKey("api_keys.id"), index=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    """The key's secret at that time: when that secret ends, so does this."""
    expires_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
