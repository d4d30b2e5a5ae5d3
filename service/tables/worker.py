"""A worker process that says it is there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from service.tables.base import Base


class Worker(Base):
    """One process that runs steps; it takes its row away when it ends in good order."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    """The `owner` of the steps it holds: host and process id."""
    machine: Mapped[str] = mapped_column(String(200))
    queues: Mapped[list[Any]]
    """Names of the queues it takes steps from."""
    device: Mapped[str] = mapped_column(String(120))
    """What it computes on."""
    memory_used_bytes: Mapped[int] = mapped_column(BigInteger)
    """Taken on the device, by whomever."""
    memory_total_bytes: Mapped[int] = mapped_column(BigInteger)
    scratch_free_bytes: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    """Its last sign of life, on the database's clock."""
