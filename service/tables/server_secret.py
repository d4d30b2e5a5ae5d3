"""What only the servers of this database know."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from service.tables.base import Base


class ServerSecret(Base):
    """Random bytes that all API processes share; made once, by whoever needs them first."""

    __tablename__ = "server_secrets"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    """What it is for."""
    value: Mapped[str] = mapped_column(String(100))
    """Hex digits."""
