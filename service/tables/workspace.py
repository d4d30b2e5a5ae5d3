"""A team's part of the factory."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base

DEFAULT_WORKSPACE_ID = "ws_" + 26 * "0"
"""The operator's own workspace: there from the first migration on, and the only one of an embedded service."""


class Workspace(Base):
    """A workspace: whoever has a key of it sees what it has and nothing else."""

    __tablename__ = "workspaces"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
