"""A count that only grows."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from service.tables.base import Base


class Tally(Base):
    """How much of something there has been since the database was made; `service/tallies.py` knows the measures."""

    __tablename__ = "tallies"

    measure: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40), primary_key=True)
    """Kind of step, or of pool."""
    label: Mapped[str] = mapped_column(String(80), primary_key=True)
    """State, reason or bucket; empty where a measure has none."""
    value: Mapped[float]
