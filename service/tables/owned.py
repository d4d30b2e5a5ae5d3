"""Rows that belong to a workspace."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column


class Owned:
    """A noun of one workspace; nobody else finds it (`service/tenancy.py`)."""

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    """Filled in by a session that is bound to a workspace; whoever works unbound names it."""
