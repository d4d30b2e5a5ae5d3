"""One thing that one process of the whole cluster does now and then."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, String
from sqlalchemy.orm import Mapped, mapped_column

from service.tables.base import Base


class Duty(Base):
    """A recurring task: who is at it, under which lease, and when it was last done."""

    __tablename__ = "duties"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    """What is to be done; or `store-...`, the id of the object store that belongs to this database."""
    token: Mapped[int] = mapped_column(BigInteger, default=0)
    """Grows with every taking."""
    owner: Mapped[str | None] = mapped_column(String(200))
    lease_until: Mapped[datetime | None]
    """Empty while nobody is at it."""
    done_at: Mapped[datetime | None]
    """When it was last finished."""
