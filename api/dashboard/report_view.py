"""A report's content as tables: who wins, per class, where it errs, what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

ORDER = ("student", "head", "baseline")
TITLES = {"student": "Student", "head": "Head on the generator", "baseline": "Same student, few labels only"}
SCORES = (
    ("miou", "mIoU"),
    ("boundary_iou", "Boundary IoU"),
    ("accuracy", "Pixel accuracy"),
    ("ap50", "AP50"),
    ("ap", "AP"),
    ("box_ap50", "Box AP50"),
    ("box_ap", "Box AP"),
)
CALIBRATION = "expected_calibration_error"


@dataclass(frozen=True)
class Verdict:
    """Whether the student wins, in one sentence."""

    tone: Literal["win", "lose", ""]
    words: str


@dataclass(frozen=True)
class Line:
    """One measurement, in the order of the report's columns."""

    name: str
    cells: list[float | None]
    best: int | None
    """Which cell is best; None when there is nothing to compare."""


@dataclass(frozen=True)
class Confusion:
    """Shares of each true class by predicted class."""

    title: str
    classes: list[str]
    rows: list[tuple[str, list[float | None]]]


@dataclass(frozen=True)
class Extreme:
    """One of the images on the sheet of the worst and best ones."""

    index: int
    """Its place in the evaluation set."""
    miou: float | None


def rows_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The measured networks: student first, then head and baseline, then whatever else was measured."""
    rows = [row for row in content.get("rows") or [] if isinstance(row, dict)]
    return sorted(rows, key=lambda row: ORDER.index(row["name"]) if row.get("name") in ORDER else len(ORDER))


def row_title(row: dict[str, Any]) -> str:
    """A column's heading."""
    name = str(row.get("name", ""))
    return str(row.get("title") or TITLES.get(name, name))


def score_of(content: dict[str, Any], name: str, score: str = "miou") -> float | None:
    """One score of one network."""
    return next((row.get(score) for row in rows_of(content) if row.get("name") == name), None)


def verdict(content: dict[str, Any]) -> Verdict | None:
    """The report's own sentence, and whether it is good news."""
    # A detector has boxes alone.
    score = "box_ap" if score_of(content, "student") is None else "miou"
    student, baseline = score_of(content, "student", score), score_of(content, "baseline", score)
    words = str(content.get("verdict") or "")
    if student is None or baseline is None:
        return Verdict("", words) if words else None
    tone: Literal["win", "lose"] = "win" if student > baseline else "lose"
    return Verdict(tone, words or _sentence(score, student, baseline))


def _sentence(score: str, student: float, baseline: float) -> str:
    words = dict(SCORES)[score]
    against = f"the same network trained on the few labels alone: {words} {student:.3f} against {baseline:.3f}"
    if student > baseline:
        return f"The student beats {against}."
    return f"The student does not beat {against}. Use the baseline, or give the factory more."


def score_lines(rows: Sequence[dict[str, Any]]) -> list[Line]:
    """Overall scores that any network has."""
    lines = [_line(words, [row.get(key) for row in rows]) for key, words in SCORES]
    errors = [row.get(CALIBRATION) for row in rows]
    lines.append(_line("Calibration error (lower is better)", errors, least=True))
    return [line for line in lines if any(cell is not None for cell in line.cells)]


def class_lines(rows: Sequence[dict[str, Any]], key: str = "per_class_iou") -> list[Line]:
    """A score per class, in class order."""
    tables = [row.get(key) or {} for row in rows]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return [_line(name, [table.get(name) for table in tables]) for name in names]


def _line(name: str, cells: list[Any], *, least: bool = False) -> Line:
    numbers = [float(cell) if isinstance(cell, int | float) else None for cell in cells]
    known = [number for number in numbers if number is not None]
    if len(known) < 2 or max(known) == min(known):
        return Line(name, numbers, None)
    return Line(name, numbers, numbers.index(min(known) if least else max(known)))


def confusions(rows: Sequence[dict[str, Any]]) -> list[Confusion]:
    """Each network's confusion matrix, rows scaled to the true class."""
    found = []
    for row in rows:
        matrix, names = row.get("confusion_matrix"), list(row.get("per_class_iou") or {})
        if not matrix or len(matrix) != len(names):
            continue
        scaled = [(name, _shares(counts)) for name, counts in zip(names, matrix, strict=True)]
        found.append(Confusion(row_title(row), names, scaled))
    return found


def _shares(counts: Sequence[int]) -> list[float | None]:
    total = sum(counts)
    return [count / total if total else None for count in counts]


def folds(content: dict[str, Any]) -> tuple[list[str], list[list[Any]]] | None:
    """The head's cross-validation on the few labels, as a table: what was tried, and how well it did."""
    table = [row for row in content.get("cross_validation") or [] if isinstance(row, dict)]
    columns = [key for key in (table[0] if table else {}) if key != "folds"]
    if not columns:
        return None
    return columns, [[_listed(row.get(column)) for column in columns] for row in table]


def _listed(value: Any) -> Any:
    """Several timesteps in one cell."""
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def extremes(content: dict[str, Any]) -> list[Extreme]:
    """The worst and best images as the report's sheet has them, from left to right; none in reports of older services."""
    scores = {image["index"]: image["miou"] for image in content.get("images") or []}
    return [Extreme(index, scores.get(index)) for index in (content.get("sheet") or {}).get("images", [])]
