"""Rows that belong to a workspace, and rows that a key asked for."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column


class Owned:
    """A noun of one workspace; nobody else finds it (`service/tenancy.py`)."""

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.id"))
    """Filled in by a session that is bound to a workspace; whoever works unbound names it."""


class Attributed:
    """What a caller brought or asked for; it counts towards the limits of the caller's key (`service/usage.py`)."""

    api_key_id: Mapped[str | None] = mapped_column(ForeignKey("api_keys.id"))
    """Filled in by a session on behalf of a caller; empty where no key asked for it."""
