"""Counts that only grow, kept in the database: they outlive every process, and each thing is counted once.

A count is part of the transaction that it counts. All counts of a transaction are written right before its commit and
in one order: many workers add to the same few rows, and must neither wait long nor wait for each other in a circle.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from service.tables import Step, Tally

SECONDS_BUCKETS = (1, 5, 15, 60, 300, 900, 3_600, 14_400, 43_200, 86_400)
"""Upper bounds of the buckets that steps are sorted into by their seconds; longer ones are in `+Inf`."""
WORKER_LOST = "worker-lost"
"""Reason of an attempt that ended with a silent worker."""

Key = tuple[str, str, str]
"""Measure, kind, label."""


class Counting(Protocol):
    """What keeps counts until its commit."""

    def count(self, key: Key, amount: float = 1) -> None:
        """Add to a count."""


def images_labelled(work: Counting, pool_kind: str, num_images: int) -> None:
    """Count the images of a recorded shard."""
    work.count(("images", pool_kind, ""), num_images)


def attempt_failed(work: Counting, kind: str, reason: str) -> None:
    """Count a failed attempt, whether or not it is tried again; `reason` is the problem's type, a slug of the code."""
    work.count(("failures", kind, reason[:80]))


def step_ended(work: Counting, step: Step) -> None:
    """Count a step that ended in the state it has; its lost workers are counted now, when their number is final."""
    work.count(("steps", step.kind, step.state))
    if step.lost:
        work.count(("failures", step.kind, WORKER_LOST), step.lost)
    if step.state == "succeeded" and step.seconds is not None:
        work.count(("step_seconds", step.kind, _bucket(step.seconds)))
        work.count(("step_seconds_sum", step.kind, ""), max(step.seconds, 0.0))


def write(session: Session, amounts: Mapping[Key, float]) -> None:
    """Add to the counts; the last thing before a commit."""
    added = text(
        "INSERT INTO tallies (measure, kind, label, value) VALUES (:measure, :kind, :label, :value) "
        "ON CONFLICT (measure, kind, label) DO UPDATE SET value = tallies.value + excluded.value"
    )
    session.flush()
    for (measure, kind, label), value in sorted(amounts.items()):
        session.execute(added, {"measure": measure, "kind": kind, "label": label, "value": value})


def read(session: Session) -> dict[str, dict[tuple[str, str], float]]:
    """All counts: measure -> (kind, label) -> value."""
    found: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for row in session.execute(select(Tally.measure, Tally.kind, Tally.label, Tally.value)):
        found[row.measure][row.kind, row.label] = row.value
    return found


def _bucket(seconds: float) -> str:
    return next((str(bound) for bound in SECONDS_BUCKETS if seconds <= bound), "+Inf")
