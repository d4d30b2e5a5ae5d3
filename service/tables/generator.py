"""A registered image generator."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.generator_families import GENERATOR_FAMILIES
from service.tables.base import Base, Deletable


class Generator(Deletable, Base):
    """A generator: bundled by the operator or trained by a job."""

    __tablename__ = "generators"
    # A deleted generator gives its name up.
    __table_args__ = (
        Index(None, "workspace_id", "id"),
        Index(
            None,
            "workspace_id",
            "name",
            unique=True,
            sqlite_where=text("deleted_at IS NULL"),
            postgresql_where=text("deleted_at IS NULL"),
        ),
        # Two rows without a workspace count as different there.
        Index(
            "ix_generators_name_offered",
            "name",
            unique=True,
            sqlite_where=text("workspace_id IS NULL AND deleted_at IS NULL"),
            postgresql_where=text("workspace_id IS NULL AND deleted_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    workspace_id: Mapped[str | None] = mapped_column(ForeignKey("workspaces.id"))
    """Empty: the operator offers it to all workspaces."""
    name: Mapped[str] = mapped_column(String(120))
    state: Mapped[str] = mapped_column(String(16))
    """`training`, `ready` or `failed`."""
    family: Mapped[str] = mapped_column(String(40))
    image_height: Mapped[int | None]
    """Null of an encoder that takes images of any size; so is the width."""
    image_width: Mapped[int | None]
    image_channels: Mapped[int]
    num_parameters: Mapped[int | None] = mapped_column(BigInteger)
    digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 over the names and contents of all files."""
    card: Mapped[dict[str, Any]]
    key_prefix: Mapped[str | None] = mapped_column(String(200))
    """Objects of the diffusers directory start with this; ends with a slash."""
    num_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Length of all of these objects, and of their zip."""
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    @property
    def can_sample(self) -> bool:
        """Whether its family draws images."""
        return GENERATOR_FAMILIES[self.family].can_sample

    @property
    def can_encode(self) -> bool:
        """Whether its family gives the features of real images, without which no head can be fitted."""
        return GENERATOR_FAMILIES[self.family].can_encode
