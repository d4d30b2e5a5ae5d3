"""One leased unit of work."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base


class Step(Base):
    """A step of a job: claimed under a lease, recorded once."""

    __tablename__ = "steps"
    __table_args__ = (
        UniqueConstraint("job_id", "kind", "index"),
        Index(None, "state", "queue", "priority"),
        Index(None, "state", "lease_until"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    kind: Mapped[str] = mapped_column(String(40))
    index: Mapped[int]
    queue: Mapped[str] = mapped_column(String(16))
    """`gpu` or `cpu`."""
    state: Mapped[str] = mapped_column(String(16))
    """`ready`, `running`, `succeeded`, `failed` or `cancelled`."""
    attempt: Mapped[int] = mapped_column(default=0)
    """Attempts begun since the step was made or the job retried."""
    lost: Mapped[int] = mapped_column(default=0)
    """How many of those attempts ended with a silent worker."""
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    """Fencing token: grows with every claim and never shrinks."""
    lease_until: Mapped[datetime | None]
    owner: Mapped[str | None] = mapped_column(String(200))
    not_before: Mapped[datetime | None]
    priority: Mapped[int] = mapped_column(default=0)
    params: Mapped[dict[str, Any]]
    progress: Mapped[dict[str, Any] | None]
    checkpoint_key: Mapped[str | None] = mapped_column(String(300))
    output: Mapped[dict[str, Any] | None]
    error: Mapped[dict[str, Any] | None]
    seconds: Mapped[float | None]
    """Seconds of all attempts together."""
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    """Start of the last attempt."""
    finished_at: Mapped[datetime | None]
