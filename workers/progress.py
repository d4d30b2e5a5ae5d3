"""From "done of total" to the snapshot people see: rate, time left, latest numbers."""

import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import replace

from service.steps import Progress

WINDOW_SECONDS = 60.0
"""The rate is that of the last minute: what a resumed step finds done counts for no longer, and a machine that others use
changes its pace."""
SPACING_SECONDS = 1.0


class ProgressTracker:
    """Remembers the latest report of a handler; the lease's thread reads it."""

    def __init__(self) -> None:
        self._snapshot: Progress | None = None
        self._points: deque[tuple[float, int]] = deque()
        """Reports of the last minute, a second apart at least, and the one before it."""
        self._unit = ""

    def report(
        self, done: int, total: int | None, metrics: Mapping[str, float], *, unit: str, message: str | None
    ) -> None:
        """Take a report; a change of unit or a step back begins a new count."""
        now = time.monotonic()
        last = self._snapshot.done if self._snapshot is not None else done
        if unit != self._unit or done < last:
            self._points.clear()
            self._unit = unit
        while len(self._points) > 1 and now - self._points[1][0] >= WINDOW_SECONDS:
            self._points.popleft()
        since, before = self._points[0] if self._points else (now, done)
        if not self._points or now - self._points[-1][0] >= SPACING_SECONDS:
            self._points.append((now, done))
        rate = (done - before) / (now - since) if done > before and now > since else None
        eta = (total - done) / rate if rate and total is not None else None
        known = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self._snapshot = Progress(done, total, unit, _rounded(rate), _rounded(eta), message, known)

    def say(self, message: str) -> None:
        """Change what it is doing and leave the numbers."""
        last = self._snapshot or Progress(0)
        self._snapshot = replace(last, message=message)

    def snapshot(self) -> Progress | None:
        """The latest report, or None before the first."""
        return self._snapshot


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
