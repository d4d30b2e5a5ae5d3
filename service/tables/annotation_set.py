"""A few images with labels."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from service.clock import utc_now
from service.tables.base import Base, Deletable
from service.tables.owned import Attributed, Owned


class AnnotationSet(Owned, Attributed, Deletable, Base):
    """One version of a few annotated images; never changes."""

    __tablename__ = "annotation_sets"
    __table_args__ = (Index(None, "workspace_id", "id"), Index(None, "api_key_id"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    kind: Mapped[str] = mapped_column(String(16))
    """`semantic` or `instance`."""
    classes: Mapped[list[dict[str, Any]]]
    """`{name, thing, color, background}` in the order of the label map's values."""
    num_images: Mapped[int]
    image_height: Mapped[int]
    image_width: Mapped[int]
    key: Mapped[str] = mapped_column(String(200))
    sha256: Mapped[str] = mapped_column(String(64))
    num_bytes: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Length of its tar."""
    statistics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
