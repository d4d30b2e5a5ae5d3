"""Finding a row by the id that somebody sent."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, TypeVar

from service.errors import Gone, NotFound
from service.ids import ID_PATTERN
from service.unit_of_work import Work

Row = TypeVar("Row")
_ID = re.compile(ID_PATTERN)


def find(work: Work, table: type[Row], row_id: str) -> Row | None:
    """The row with this id, or None, also for what was deleted; text that cannot be an id never reaches the database."""
    row = _get(work, table, row_id)
    return None if row is None or is_deleted(row) else row


def must_find(work: Work, table: type[Row], row_id: str, noun: str, *, deleted: bool = False) -> Row:
    """The row with this id. Raises NotFound, Gone, which call the row a `noun`.

    `deleted` asks for the row of what was deleted as well: cards and other rows go on naming it.
    """
    row = _get(work, table, row_id)
    if row is None:
        raise NotFound(f"There is no {noun} {row_id[:60]}.")
    if not deleted:
        require_present(row, noun)
    return row


def require_present(row: Any, noun: str) -> None:
    """Raises Gone for the row of something deleted."""
    if is_deleted(row):
        deleted_at: datetime = row.deleted_at
        raise Gone(f"The {noun} {row.id} was deleted on {deleted_at:%Y-%m-%d at %H:%M} UTC.")


def is_deleted(row: Any) -> bool:
    """Whether only its row is left; steps, for one, are never deleted on their own."""
    return getattr(row, "deleted_at", None) is not None


def is_id(value: Any) -> bool:
    """Whether this can be an id at all."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _get(work: Work, table: type[Row], row_id: str) -> Row | None:
    return work.session.get(table, row_id) if _ID.fullmatch(row_id) else None
