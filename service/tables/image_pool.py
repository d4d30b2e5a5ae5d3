"""Unlabelled real images."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base, Deletable
from service.tables.owned import Attributed, Owned


class ImagePool(Owned, Deletable, Base):
    """A pool of unlabelled images; parts are added until it is sealed."""

    __tablename__ = "image_pools"
    __table_args__ = (Index(None, "workspace_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    state: Mapped[str] = mapped_column(String(16))
    """`open` or `sealed`."""
    num_images: Mapped[int] = mapped_column(BigInteger, default=0)
    image_height: Mapped[int | None]
    image_width: Mapped[int | None]
    """Size of all images; empty until the first part."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)


class PoolPart(Attributed, Base):
    """One uploaded part of a pool: a tar of PNGs."""

    __tablename__ = "pool_parts"
    __table_args__ = (UniqueConstraint("pool_id", "sha256"), Index(None, "api_key_id"))

    pool_id: Mapped[str] = mapped_column(ForeignKey("image_pools.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(200))
    num_images: Mapped[int]
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
