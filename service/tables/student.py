"""A distilled network."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base, Deletable
from service.tables.owned import Owned


class Student(Owned, Deletable, Base):
    """A student with its files and card; never changes."""

    __tablename__ = "students"
    __table_args__ = (Index(None, "workspace_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id"))
    """What it learned from; empty where that was the few labels alone."""
    name: Mapped[str] = mapped_column(String(120))
    architecture: Mapped[str] = mapped_column(String(60))
    num_parameters: Mapped[int] = mapped_column(BigInteger)
    classes: Mapped[list[dict[str, Any]]]
    files: Mapped[list[dict[str, Any]]]
    """`{name, key, num_bytes, sha256}` of every file of the directory."""
    archive_key: Mapped[str | None] = mapped_column(String(200))
    """Zip of all files."""
    num_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Length of all files and of their zip."""
    card: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
