"""The report's sentence: whether the student is worth it, said plainly."""

from collections.abc import Mapping, Sequence
from typing import Any


def verdict(rows: Sequence[Mapping[str, Any]], head_card: Mapping[str, Any]) -> str:
    """One sentence about the student against the baseline, or what is known without held-out images."""
    scores = {row["name"]: row["miou"] for row in rows}
    student, baseline = scores.get("student"), scores.get("baseline")
    if student is None or baseline is None:
        return _unmeasured(head_card)
    against = f"mIoU {student:.3f} against {baseline:.3f}"
    if student > baseline:
        return f"The student beats the same network trained on the few labels alone: {against}."
    if student == baseline:
        return f"The student is no better than the same network trained on the few labels alone: {against}."
    return (
        f"The student loses to the same network trained on the few labels alone: {against}. "
        "Use the baseline, or give the factory a better generator, more images or a longer fine-tuning."
    )


def _unmeasured(head_card: Mapping[str, Any]) -> str:
    table = head_card.get("cross_validation") or []
    if not table:
        return "Nothing was held out, so nothing was measured; give an evaluation set to learn how good the student is."
    best = max(float(row["miou"]) for row in table)
    return f"No evaluation set was given. Cross-validated on the few labels, the head reaches mIoU {best:.3f}."
