"""A labelled dataset, its shards, images and exports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base, Deletable
from service.tables.owned import Owned


class Dataset(Owned, Deletable, Base):
    """A dataset: filled shard by shard, then sealed and never changed."""

    __tablename__ = "datasets"
    __table_args__ = (Index(None, "workspace_id", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), unique=True)
    name: Mapped[str] = mapped_column(String(120))
    state: Mapped[str] = mapped_column(String(16))
    """`building` or `sealed`."""
    num_images: Mapped[int] = mapped_column(BigInteger, default=0)
    num_kept: Mapped[int | None] = mapped_column(BigInteger)
    classes: Mapped[list[dict[str, Any]]]
    image_height: Mapped[int]
    image_width: Mapped[int]
    manifest_key: Mapped[str | None] = mapped_column(String(200))
    card: Mapped[dict[str, Any]]
    statistics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    sealed_at: Mapped[datetime | None]


class DatasetShard(Base):
    """One tar of labelled images."""

    __tablename__ = "dataset_shards"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    num_images: Mapped[int]
    pool_kind: Mapped[str] = mapped_column(String(16))
    """`synthesized` or `encoded`."""


class DatasetImage(Base):
    """One image of a dataset and where its bytes lie inside the shard."""

    __tablename__ = "dataset_images"
    __table_args__ = (
        Index(None, "dataset_id", "uncertainty", "index"),
        Index(None, "dataset_id", "shard_index"),
    )

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    shard_index: Mapped[int]
    name: Mapped[str] = mapped_column(String(120))
    uncertainty: Mapped[float]
    kept: Mapped[bool | None]
    """Empty until the dataset is sealed."""
    weight: Mapped[float | None]
    """How often a student should see this image, 1 on average over kept images."""
    class_pixels: Mapped[list[int]]
    """Pixels of each class, in class order."""
    image_offset: Mapped[int] = mapped_column(BigInteger)
    image_bytes: Mapped[int]
    label_offset: Mapped[int] = mapped_column(BigInteger)
    label_bytes: Mapped[int]


class DatasetExport(Base):
    """A dataset in a downloadable format."""

    __tablename__ = "dataset_exports"

    dataset_id: Mapped[str] = mapped_column(ForeignKey("datasets.id"), primary_key=True)
    format: Mapped[str] = mapped_column(String(16), primary_key=True)
    key: Mapped[str | None] = mapped_column(String(200))
    """Empty once it has expired and its object is gone."""
    sha256: Mapped[str] = mapped_column(String(64))
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    validation: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime | None]
    """From then on it is as good as gone, and can be made again."""
