"""Pages of lists: newest first, each page names where the next begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select

from service.errors import BadRequest
from service.lookup import is_id
from service.unit_of_work import Work

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Some items of a list."""

    items: list[Row]
    """The rows of this page."""
    next_after: str | None
    """Give this as `after` for the next page; empty on the last page."""


def newest_first(work: Work, query: Select[Row], id_column: Any, *, after: str | None, limit: int) -> Page[Row]:
    """One page of `query`, ordered by id downwards (ids sort by time), after the given id. Raises BadRequest."""
    if after is not None:
        if not is_id(after):
            raise BadRequest("The cursor is not one of this list.")
        query = query.where(id_column < after)
    rows = list(work.session.scalars(query.order_by(id_column.desc()).limit(limit + 1)))
    items = rows[:limit]
    more = len(rows) > limit
    return Page(items, str(getattr(items[-1], id_column.key)) if more else None)
