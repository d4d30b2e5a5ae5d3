"""A report's filter curve as lines of an SVG: mIoU of what is kept over the share that is dropped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 400, 210
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 10, 24
"""Margins around the lines: the numbers of the axes."""
TITLES = {"images": "images", "pixels": "pixels of every image"}
OPTIONS = {"images": "drop_share", "pixels": "ignore_pixel_share"}
TICK_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MOST_TICKS = 6
SHARE_TICKS = 5
SLACK = 1e-9
"""0.7 lies on a tick, whatever 0.7 / 0.05 comes to."""


@dataclass(frozen=True)
class Tick:
    """One number on an axis."""

    place: float
    """x or y in the picture."""
    words: str


@dataclass(frozen=True)
class Line:
    """One curve."""

    kind: str
    """What is dropped: a key of TITLES."""
    title: str
    option: str
    """The field of a job's filter that does it."""
    segments: list[str]
    """Points of polylines; several where values are missing between."""
    mark: tuple[float, float] | None
    """(x, y) of what the job itself dropped; None outside the curve."""
    values: list[float | None]


@dataclass(frozen=True)
class Picture:
    """Everything that is drawn."""

    lines: list[Line]
    shares: list[float]
    across: list[Tick]
    up: list[Tick]
    num_images: int
    estimated: bool
    """From quick fits on the few labels, not on held-out images."""


def picture(content: dict[str, Any]) -> Picture | None:
    """The picture of a report's `filter_curve`; None where there is none."""
    curve = content.get("filter_curve")
    if not curve:
        return None
    shares = [float(share) for share in curve["shares"]]
    known = [value for kind in TITLES for value in curve[kind] if value is not None]
    if not known:
        return None
    step = next((step for step in TICK_STEPS if (max(known) - min(known)) / step <= MOST_TICKS - 2), TICK_STEPS[-1])
    first, last = math.floor(min(known) / step + SLACK), math.ceil(max(known) / step - SLACK)
    first = min(first, last - 1)
    low, high = first * step, last * step
    scale = _Scale(shares[-1] or 1.0, low, high)
    dropped = curve.get("dropped") or {}
    return Picture(
        lines=[
            Line(
                kind,
                title,
                OPTIONS[kind],
                scale.segments(shares, curve[kind]),
                scale.mark(shares, curve[kind], dropped.get(OPTIONS[kind])),
                curve[kind],
            )
            for kind, title in TITLES.items()
        ],
        shares=shares,
        across=[Tick(scale.x(share), f"{share:.0%}") for share in _evenly(shares[-1], SHARE_TICKS)],
        up=[Tick(scale.y(count * step), f"{count * step:.2f}") for count in range(first, last + 1)],
        num_images=int(curve["num_images"]),
        estimated=bool(curve.get("estimated")),
    )


def _evenly(last: float, parts: int) -> list[float]:
    return [last * part / parts for part in range(parts + 1)]


@dataclass(frozen=True)
class _Scale:
    """From shares and scores to places in the picture."""

    last_share: float
    low: float
    high: float

    def x(self, share: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * share / self.last_share, 1)

    def y(self, miou: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (self.high - miou) / (self.high - self.low), 1)

    def segments(self, shares: Sequence[float], values: Sequence[float | None]) -> list[str]:
        found: list[list[str]] = [[]]
        for share, value in zip(shares, values, strict=True):
            if value is None:
                found.append([])
            else:
                found[-1].append(f"{self.x(share)},{self.y(value)}")
        return [" ".join(points) for points in found if points]

    def mark(
        self, shares: Sequence[float], values: Sequence[float | None], dropped: float | None
    ) -> tuple[float, float] | None:
        """Where the job's own share lies on the line between its neighbours."""
        if dropped is None:
            return None
        pairs = list(zip(shares, values, strict=True))
        for (share, value), (next_share, next_value) in zip(pairs, [*pairs[1:], pairs[-1]], strict=True):
            if dropped == share and value is not None:
                return self.x(share), self.y(value)
            if share < dropped < next_share and value is not None and next_value is not None:
                part = (dropped - share) / (next_share - share)
                return self.x(dropped), self.y(value + part * (next_value - value))
        return None
