"""What all tables share."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, MetaData
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped

from service.clock import UtcDateTime

# None becomes SQL NULL, so that "IS NULL" means what it says on both databases.
JsonColumn = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


class Base(DeclarativeBase):
    """Base of all tables; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: UtcDateTime(),
        dict[str, Any]: JsonColumn,
        list[Any]: JsonColumn,
        list[dict[str, Any]]: JsonColumn,
        list[int]: JsonColumn,
    }


class Deletable:
    """A row that stays when its thing is deleted: other rows refer to it, and cards name it."""

    deleted_at: Mapped[datetime | None]
    """From then on only the row is left to be seen."""
    purged_at: Mapped[datetime | None]
    """When its objects and the rows below it were gone."""
