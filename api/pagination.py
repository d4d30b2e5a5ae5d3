"""Opaque cursors and the shape of every list answer."""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Self, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from api.dependencies import FactoryDep
from service.errors import BadRequest
from service.paging import Page as Rows

Item = TypeVar("Item", bound=BaseModel)

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
PLAIN = re.compile(r"[\x20-\x7e]{1,150}")


class Page(BaseModel, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    next_cursor: str | None = Field(description="Give this as `cursor` for the next page; null on the last one")

    @classmethod
    def of(cls, rows: Rows[Any], items: Iterable[Any]) -> Self:
        """The answer for a page of rows; pydantic reads the items from the rows' attributes."""
        return cls.model_validate(
            {"items": list(items), "next_cursor": encode_cursor(rows.next_after)}, from_attributes=True
        )


@dataclass(frozen=True)
class Paging:
    """Which page is asked for."""

    limit: int
    after: str | None
    """Where the page before ended, in the service's own words."""


def encode_cursor(after: str | None) -> str | None:
    """The opaque form of a place in a list."""
    return None if after is None else base64.urlsafe_b64encode(after.encode()).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> str | None:
    """The place a cursor names. Raises `BadRequest` for anything `encode_cursor` did not make."""
    if cursor is None:
        return None
    try:
        after = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        after = ""
    if not PLAIN.fullmatch(after) or encode_cursor(after) != cursor:
        raise BadRequest("This cursor was not made by this list; start again without one.")
    return after


async def _paging(
    factory: FactoryDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Most items in this page")] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(max_length=300, description="`next_cursor` of the page before")] = None,
) -> Paging:
    return Paging(min(limit, factory.settings.page_limit), decode_cursor(cursor))


PagingDep = Annotated[Paging, Depends(_paging)]
