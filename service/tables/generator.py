"""A registered image generator."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.generator_families import GENERATOR_FAMILIES
from service.tables.base import Base


class Generator(Base):
    """A generator: bundled by the operator or trained by a job."""

    __tablename__ = "generators"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120), unique=True)
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
