"""The report's sentence: whether the student is worth it, or how good what was measured is, said plainly."""

from collections.abc import Mapping, Sequence
from typing import Any


def verdict(rows: Sequence[Mapping[str, Any]], head_card: Mapping[str, Any]) -> str:
    """One sentence about the student against the baseline, or what is known without held-out images."""
    by_name = {row["name"]: row for row in rows}
    key, words = _measure(by_name.get("student", {}))
    student, baseline = by_name.get("student", {}).get(key), by_name.get("baseline", {}).get(key)
    if student is None or baseline is None:
        return _unmeasured(head_card)
    against = f"{words} {student:.3f} against {baseline:.3f}"
    if student > baseline:
        return f"The student beats the same network trained on the few labels alone: {against}."
    if student == baseline:
        return f"The student is no better than the same network trained on the few labels alone: {against}."
    return (
        f"The student loses to the same network trained on the few labels alone: {against}. "
        "Use the baseline, or give the factory a better generator, more images or a longer fine-tuning."
    )


def reached(subject: str, row: Mapping[str, Any]) -> str:
    """One sentence about the only thing that was measured; it begins with `subject`."""
    images = "1 held-out image" if row["num_images"] == 1 else f"{row['num_images']} held-out images"
    key, words = _measure(row)
    if row[key] is None:
        return f"{subject} was shown {images}, but they have no labelled pixel to measure on."
    return f"{subject} reaches {words} {row[key]:.3f} on {images}."


def _measure(row: Mapping[str, Any]) -> tuple[str, str]:
    """The score that a network is judged by, and its name: a detector has boxes alone."""
    detects = row.get("miou") is None and row.get("box_ap") is not None
    return ("box_ap", "box AP") if detects else ("miou", "mIoU")


def _unmeasured(head_card: Mapping[str, Any]) -> str:
    table = head_card.get("cross_validation") or []
    if not table and (estimate := head_card.get("estimate")):
        return (
            f"No evaluation set was given. An estimate on the few labels alone, from {estimate['num_folds']} folds fitted "
            f"on half of the labels with {estimate['steps_share']:.0%} of the steps: the head reaches at least about "
            f"mIoU {estimate['miou']:.2f}."
        )
    if not table:
        return "Nothing was held out, so nothing was measured; give an evaluation set to learn how good the student is."
    best = max(float(row["miou"]) for row in table)
    return f"No evaluation set was given. Cross-validated on the few labels, the head reaches mIoU {best:.3f}."
