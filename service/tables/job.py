"""What a user asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base, Deletable
from service.tables.owned import Attributed, Owned


class Job(Owned, Attributed, Deletable, Base):
    """A job: its typed spec, its state and the ids of what it made."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "workspace_id", "id"),
        Index(None, "state"),
        Index(None, "workspace_id", "state", "deleted_at"),
        Index(None, "api_key_id", "state"),
        UniqueConstraint("workspace_id", "idempotency_key"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(120))
    spec: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(16))
    """`queued`, `running`, `cancelling`, `cancelled`, `succeeded` or `failed`."""
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    error: Mapped[dict[str, Any] | None]
    """Problem document of the step that failed."""
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Ids of what the job made so far: generator_id, dataset_id, student_id, report_id."""
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    idempotency_body_sha256: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
