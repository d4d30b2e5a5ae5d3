"""Colours for classes and instances: distinct, the same each time, the first ones safe for colour-blind eyes."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

SAFE = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")
"""Okabe and Ito's palette without black, which is the background's."""

GRID = (0, 51, 102, 153, 204, 255)


def default_colors(n: int) -> list[str]:
    """n distinct `#rrggbb` colours; a longer list begins with the shorter one."""
    return list(_colors(max(n, 0))[:n])


def rgb(color: str) -> tuple[int, int, int]:
    """`#rrggbb` -> three values 0..255; mid grey for anything else."""
    try:
        return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
    except ValueError:
        return 128, 128, 128


@cache
def _colors(n: int) -> tuple[str, ...]:
    """Grown one by one: each new colour is the candidate farthest, in OKLab, from all before."""
    chosen = list(SAFE)
    grid = np.array([(r, g, b) for r in GRID for g in GRID for b in GRID], dtype=np.float64)
    lab = _oklab(grid)
    visible = (lab[:, 0] > 0.35) & (lab[:, 0] < 0.95)  # neither black nor white
    grid, lab = grid[visible], lab[visible]
    greys = _oklab(np.array([(0.0, 0, 0), (128.0, 128, 128), (255.0, 255, 255)]))
    taken = np.concatenate([greys, _oklab(np.array([rgb(c) for c in chosen], dtype=np.float64))])
    distance = np.min(np.linalg.norm(lab[:, None] - taken[None], axis=2), axis=1)
    while len(chosen) < n:
        best = int(np.argmax(distance))
        chosen.append("#{:02x}{:02x}{:02x}".format(*(int(v) for v in grid[best])))
        distance = np.minimum(distance, np.linalg.norm(lab - lab[best], axis=1))
        if distance.max() == 0:  # the grid is used up: start over with what there is
            distance = np.ones(len(lab))
    return tuple(chosen)


def _oklab(rgb_N3: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB 0..255 -> OKLab (Ottosson 2020), where distance is difference as seen."""
    x = rgb_N3 / 255
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab: NDArray[np.float64] = np.cbrt(linear @ to_lms.T) @ to_lab.T
    return lab
