"""Choosing a head's timestep on the few labels themselves: k-fold cross-validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from models.contracts import Progress
from models.examples import Example


@dataclass(frozen=True)
class Candidate:
    """One setting that is tried."""

    tap_timesteps: tuple[int, ...]


Fold = tuple[list[Example], list[Example]]
"""(fitted on, held out)."""
Validate = Callable[[Candidate, Sequence[Example], Sequence[Example]], float]


def folds(examples: Sequence[Example], count: int) -> list[Fold]:
    """Every example is held out once; none with fewer than two examples, for there is nothing to hold out."""
    count = min(count, len(examples))
    if count < 2:
        return []
    held = [list(examples[index::count]) for index in range(count)]
    return [
        ([example for other, part in enumerate(held) if other != index for example in part], held[index])
        for index in range(count)
    ]


def choose(
    candidates: Sequence[Candidate], folds: Sequence[Fold], validate: Validate, progress: Progress | None
) -> tuple[Candidate, list[dict[str, Any]]]:
    """The candidate of the best mean held-out mIoU, and the table of all; one candidate is taken without a trial."""
    if len(candidates) == 1 or not folds:
        return candidates[len(candidates) // 2], []
    table: list[dict[str, Any]] = []
    total = len(candidates) * len(folds)
    for candidate in candidates:
        scores = []
        for fitted, held_out in folds:
            scores.append(validate(candidate, fitted, held_out))
            done = len(table) * len(folds) + len(scores)
            if progress is not None:
                progress(done, 2 * total, {"cross_validated_miou": scores[-1]})
        mean = sum(scores) / len(scores)
        table.append({"tap_timesteps": list(candidate.tap_timesteps), "miou": mean, "folds": scores})
    best = max(range(len(candidates)), key=lambda index: table[index]["miou"])
    return candidates[best], table
