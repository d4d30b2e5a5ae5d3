"""Share of pixels per class, as bars."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.dashboard.formatting import count


@dataclass(frozen=True)
class ClassShare:
    """One class and its share of the labelled pixels."""

    name: str
    color: str
    share: float
    note: str = ""
    """In how many images it appears, where that is known."""


def class_shares(classes: Sequence[dict[str, Any]], pixels: Any) -> list[ClassShare]:
    """One bar per class from pixel counts in class order; nothing when there are none."""
    if not isinstance(pixels, list) or len(pixels) != len(classes) or not sum(pixels):
        return []
    total = sum(pixels)
    return [_share(item, number / total) for item, number in zip(classes, pixels, strict=True)]


def kept_shares(classes: Sequence[dict[str, Any]], statistics: dict[str, Any]) -> list[ClassShare]:
    """One bar per class over the kept images of a sealed dataset."""
    table = statistics.get("classes")
    if not isinstance(table, list) or len(table) != len(classes):
        return []
    return [
        _share(item, float(row.get("kept_pixel_share") or 0), f"in {count(row.get('num_kept') or 0)} images")
        for item, row in zip(classes, table, strict=True)
    ]


def _share(item: dict[str, Any], share: float, note: str = "") -> ClassShare:
    return ClassShare(str(item.get("name")), str(item.get("color")), share, note)
