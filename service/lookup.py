"""Finding a row by the id that somebody sent."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from service.errors import NotFound
from service.ids import ID_PATTERN
from service.unit_of_work import Work

Row = TypeVar("Row")
_ID = re.compile(ID_PATTERN)


def find(work: Work, table: type[Row], row_id: str) -> Row | None:
    """The row with this id, or None; text that cannot be an id never reaches the database."""
    return work.session.get(table, row_id) if _ID.fullmatch(row_id) else None


def must_find(work: Work, table: type[Row], row_id: str, noun: str) -> Row:
    """The row with this id. Raises NotFound, which calls the row a `noun`."""
    row = find(work, table, row_id)
    if row is None:
        raise NotFound(f"There is no {noun} {row_id[:60]}.")
    return row


def is_id(value: Any) -> bool:
    """Whether this can be an id at all."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None
