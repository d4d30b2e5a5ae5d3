"""What happened in a job, in order."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base


class Event(Base):
    """One event of a job; ids grow within a job in the order of commits."""

    __tablename__ = "events"
    __table_args__ = (
        Index(None, "job_id", "id"),
        Index(None, "step_id", "id"),
        {"sqlite_autoincrement": True},
    )

    # SQLite only counts up by itself in a column of type INTEGER, which is 64 bit there.
    id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    step_id: Mapped[str | None] = mapped_column(ForeignKey("steps.id"))
    type: Mapped[str] = mapped_column(String(20))
    """`job.state`, `step.state`, `step.progress`, `sample` or `log`."""
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
