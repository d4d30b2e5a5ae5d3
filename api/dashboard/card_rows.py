"""A card (nested JSON about a generator, dataset or student) as rows of words."""

from collections.abc import Iterable
from typing import Any

from api.dashboard.formatting import number

Row = tuple[str, Any]
MAX_ROWS = 40
MAX_WORDS = 300


def card_rows(card: dict[str, Any], *, skip: Iterable[str] = ()) -> list[Row]:
    """Scalars and short lists of a card, nested names joined; long or binary things are left out."""
    hidden = frozenset(skip)
    return list(_flat(card, "", hidden))[:MAX_ROWS]


def _flat(value: dict[str, Any], prefix: str, hidden: frozenset[str]) -> Iterable[Row]:
    for key, item in value.items():
        if key in hidden:
            continue
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(item, dict):
            yield from _flat(item, f"{name}: ", hidden)
        elif (words := _words(item)) is not None:
            yield name[:1].upper() + name[1:], words


def _words(item: Any) -> str | None:
    if isinstance(item, list):
        parts = [_words(part) for part in item] if len(item) <= 16 else []
        return ", ".join(part for part in parts if part) or None
    if item is None or isinstance(item, dict):
        return None
    if isinstance(item, bool):
        return "yes" if item else "no"
    return number(item)[:MAX_WORDS]
