"""A report's tables of taps as pictures: what each block knows at each timestep, and which of them the head reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One block at one timestep."""

    miou: float | None
    share: float
    """Its place between the worst cell (0) and the best (1)."""
    read: bool
    """Whether the head reads it."""


@dataclass(frozen=True)
class TapMap:
    """Timesteps downwards, blocks from coarse to fine across."""

    source: str
    """Name of the generator or encoder."""
    blocks: list[dict[str, Any]]
    """`{name, stride, channels}` of each."""
    rows: list[tuple[int, list[Cell]]]
    num_images: int
    has_noise: bool
    """False for an encoder: it knows one timestep alone."""


def tap_maps(content: dict[str, Any]) -> list[TapMap]:
    """The pictures of a report's `taps`, one per source; none where no head reads one, or in reports of older services."""
    return [_tap_map(table) for table in content.get("taps") or []]


def _tap_map(table: dict[str, Any]) -> TapMap:
    known = [miou for row in table["miou"] for miou in row if miou is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    names = [block["name"] for block in table["blocks"]]

    def cell(timestep: int, name: str, miou: float | None) -> Cell:
        share = (miou - low) / (high - low) if miou is not None and high > low else 0.0
        return Cell(miou, share, timestep in table["read"]["timesteps"] and name in table["read"]["blocks"])

    rows = [
        (timestep, [cell(timestep, name, miou) for name, miou in zip(names, mious, strict=True)])
        for timestep, mious in zip(table["timesteps"], table["miou"], strict=True)
    ]
    return TapMap(table["source"], table["blocks"], rows, table["num_images"], has_noise=len(rows) > 1)
