"""COCO run-length masks. A stranger's RLE is checked here, in Python and numpy, before any C code could see it.

An RLE lists runs down the columns (Fortran order), the first run being zeros. Compressed, each run is written as 5-bit
groups in printable characters, from the fourth run on as the difference to the run two before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.formats.problems import FileProblem

Mask_HW = NDArray[np.bool_]
Counts = NDArray[np.int64]

FIRST_CHARACTER = 48
MAX_GROUPS = 7
"""5-bit groups of one number: 35 bits, more than any image we accept needs."""

EMPTY = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Region:
    """One connected or unconnected region of a label map, ready for COCO."""

    key: int
    counts: bytes
    """Compressed."""
    area: int
    bbox: tuple[int, int, int, int]
    """x, y, width, height; half-open, so x + width is one past the last column."""


def counts_from_list(values: object, height: int, width: int) -> Counts:
    """Uncompressed counts, checked. Raises `FileProblem`."""
    if not isinstance(values, list):
        raise FileProblem("is neither a list nor a string")
    if len(values) > height * width + 1:
        raise FileProblem(f"has {len(values):,} runs, more than a {height}x{width} mask can have")
    if set(map(type, values)) - {int}:
        raise FileProblem("holds something other than whole numbers")
    if not values:
        raise FileProblem("has no runs")
    if max(values) > height * width:
        raise FileProblem("has a run longer than the image")
    if min(values) < 0:
        raise FileProblem("has a negative run")
    return _checked(np.array(values, dtype=np.int64), height, width)


def counts_from_string(text: str | bytes, height: int, width: int) -> Counts:
    """Compressed counts, checked. Raises `FileProblem`."""
    try:
        data = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError as error:
        raise FileProblem("has a character that no compressed RLE holds") from error
    if not data:
        raise FileProblem("is empty")
    if len(data) > MAX_GROUPS * (height * width + 1):
        raise FileProblem(f"is longer than any {height}x{width} mask needs")
    return _checked(_undelta(_numbers(data)), height, width)


def mask_from_counts(counts: Counts, height: int, width: int) -> Mask_HW:
    """Checked counts -> bool HW."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def counts_from_mask(mask_HW: Mask_HW) -> Counts:
    """bool HW -> counts; the first run is zeros, perhaps none."""
    flat = np.asarray(mask_HW, dtype=np.bool_).T.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], edges, [flat.size]])
    counts = np.diff(bounds)
    return np.concatenate([[0], counts]) if flat.size and flat[0] else counts


def compress(counts: Counts) -> bytes:
    """Counts -> the printable form that pycocotools reads."""
    return b"".join(compress_many(counts, np.array([0, len(counts)])))


def compress_many(counts: Counts, bounds: NDArray[np.int64]) -> list[bytes]:
    """Many masks at once: mask i has `counts[bounds[i]:bounds[i + 1]]`."""
    place = np.arange(len(counts)) - np.repeat(bounds[:-1], np.diff(bounds))
    deltas = counts.copy()
    later = np.flatnonzero(place > 2)
    deltas[later] -= counts[later - 2]
    groups = _groups_needed(deltas)
    starts = np.concatenate([[0], np.cumsum(groups)])
    position = np.arange(starts[-1]) - np.repeat(starts[:-1], groups)
    value = (np.repeat(deltas, groups) >> (5 * position)) & 0x1F
    more = position < np.repeat(groups, groups) - 1
    data = (value + 0x20 * more + FIRST_CHARACTER).astype(np.uint8).tobytes()
    ends = starts[bounds]
    return [data[a:b] for a, b in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)]


def encode_regions(keys_HW: NDArray[np.integer], skip: tuple[int, ...] = ()) -> list[Region]:
    """Every value of the map that is not in `skip` as one region, in order of value, in one pass over the map."""
    height = keys_HW.shape[0]
    flat = np.ascontiguousarray(keys_HW.T).reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.concatenate([starts[1:], [flat.size]])
    values = flat[starts]
    wanted = ~np.isin(values, skip) if skip else np.ones(len(values), np.bool_)
    starts, ends, values = starts[wanted], ends[wanted], values[wanted]
    order = np.argsort(values, kind="stable")
    starts, ends, values = starts[order], ends[order], values[order]
    if not len(values):
        return []
    firsts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    counts, bounds = _interleave(starts, ends, firsts, flat.size)
    areas = np.add.reduceat(ends - starts, firsts).tolist()
    boxes = _boxes(starts, ends, firsts, height)
    texts = compress_many(counts, bounds)
    return [
        Region(int(key), text, area, box)
        for key, text, area, box in zip(values[firsts].tolist(), texts, areas, boxes, strict=True)
    ]


def bbox(counts: Counts, height: int) -> tuple[int, int, int, int]:
    """x, y, width, height of the ones, half-open; zeros for an empty mask."""
    ends = np.cumsum(counts)
    starts, ends = ends[:-1:2], ends[1::2]
    real = ends > starts
    if not real.any():
        return 0, 0, 0, 0
    return _boxes(starts[real], ends[real], np.zeros(1, np.int64), height)[0]


def _interleave(starts: Counts, ends: Counts, firsts: NDArray[np.int64], size: int) -> tuple[Counts, NDArray[np.int64]]:
    """Runs of ones grouped by region -> counts of all regions one after another, and where each begins.

    A region of r runs has the counts gap, run, gap, run, ... and a last gap unless it ends with the image.
    """
    runs = np.diff(np.append(firsts, len(starts)))
    lasts = firsts + runs - 1
    before = np.empty_like(starts)
    before[1:] = ends[:-1]
    before[firsts] = 0
    tail = size - ends[lasts]
    lengths = 2 * runs + (tail > 0)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    counts = np.empty(bounds[-1], np.int64)
    place = np.repeat(bounds[:-1] - 2 * firsts, runs) + 2 * np.arange(len(starts))
    counts[place] = starts - before
    counts[place + 1] = ends - starts
    counts[bounds[1:][tail > 0] - 1] = tail[tail > 0]
    return counts, bounds


def _boxes(starts: Counts, ends: Counts, firsts: NDArray[np.int64], height: int) -> list[tuple[int, int, int, int]]:
    first_column, last_column = starts // height, (ends - 1) // height
    within = first_column == last_column
    top = np.where(within, starts % height, 0)
    bottom = np.where(within, (ends - 1) % height, height - 1)
    x0, x1 = np.minimum.reduceat(first_column, firsts), np.maximum.reduceat(last_column, firsts)
    y0, y1 = np.minimum.reduceat(top, firsts), np.maximum.reduceat(bottom, firsts)
    return list(zip(x0.tolist(), y0.tolist(), (x1 - x0 + 1).tolist(), (y1 - y0 + 1).tolist(), strict=True))


def _groups_needed(values: Counts) -> NDArray[np.int64]:
    """Characters per number: as many 5-bit groups as keep the sign, at least one."""
    magnitude = np.where(values < 0, ~values, values)
    groups = np.ones(len(values), np.int64)
    for extra in range(1, MAX_GROUPS):
        groups += magnitude >= 1 << (5 * extra - 1)
    return groups


def _numbers(data: bytes) -> Counts:
    """5-bit groups -> signed numbers."""
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - FIRST_CHARACTER
    if codes.min() < 0 or codes.max() > 0x3F:
        raise FileProblem("has a character that no compressed RLE holds")
    last = np.flatnonzero((codes & 0x20) == 0)
    if not len(last) or last[-1] != len(codes) - 1:
        raise FileProblem("ends in the middle of a number")
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > MAX_GROUPS:
        raise FileProblem("has a number too large for any image")
    position = np.arange(len(codes)) - np.repeat(first, lengths)
    numbers = np.add.reduceat((codes & 0x1F) << (5 * position), first)
    negative = (codes[last] & 0x10) != 0
    return numbers - np.where(negative, np.int64(1) << (5 * lengths), 0)


def _undelta(numbers: Counts) -> Counts:
    """From the fourth number on each is a difference to the one two before."""
    counts = numbers.copy()
    counts[1::2] = np.cumsum(numbers[1::2])
    counts[2::2] = np.cumsum(numbers[2::2])
    return counts


def _checked(counts: Counts, height: int, width: int) -> Counts:
    if counts.min() < 0:
        raise FileProblem("has a negative run")
    total = int(counts.sum())
    if counts.max() > height * width or total != height * width:
        raise FileProblem(f"covers {total:,} pixels, not the {height * width:,} of a {height}x{width} image")
    return counts
