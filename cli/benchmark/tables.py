"""The benchmark's tables in Markdown. Pure."""

from collections.abc import Mapping, Sequence

from cli.benchmark.results import Point, baseline_curve, mean, multiplier
from cli.benchmark.rows import ROWS
from cli.client import Json


def render(facts: Json, found: Sequence[Point], failed: Mapping[str, str], plots: Sequence[str]) -> str:
    """The page of a benchmark."""
    counts = sorted({point.labels for point in found})
    lines = [f"# {facts['pack']}: how many labels is one label worth?", "", *_preamble(facts, found), ""]
    if not found:
        return "\n".join([*lines, "Nothing is measured yet.", ""])
    lines += ["## mIoU on held-out images", "", *_scores(found, counts, "miou", with_multiplier=True), ""]
    if any(value is not None for point in found for value in point.values["ap50"]):
        lines += ["## Instances: AP50", "", *_scores(found, counts, "ap50"), ""]
        lines += ["## Instances: AP", "", *_scores(found, counts, "ap"), ""]
    lines += [f"## IoU of each class, {counts[0]} labels", "", *_per_class(found, counts[0]), ""]
    lines += [f"## Cost and more, {counts[0]} labels", "", *_cost(found, counts[0]), ""]
    lines += [f"![{name}]({name})" for name in plots]
    lines += [f"- failed: {key}: {reason}" for key, reason in failed.items()]
    return "\n".join([*lines, ""])


def _preamble(facts: Json, found: Sequence[Point]) -> list[str]:
    budget = facts.get("whole_budget_steps") if any(point.row == "few_long" for point in found) else None
    trained = len(facts.get("generator_digests", []))
    drawn = f"generator `{facts['generator']}`" if trained else "no generator"
    drawn += f" ({trained} of them, one in each service that the benchmark ran in)" if trained > 1 else ""
    return [
        *(f"    {command}" for command in facts["commands"]),
        "",
        f"{facts['held_out']} held-out images; {facts['unlabelled']} unlabelled ones; {drawn}; computed on {facts['device']}.",
        "Mean ± sample standard deviation over the seeds done (their number in brackets where it is not the same for all); same student, augmentation and steps in every row"
        + (f", but for the whole budget: {budget} steps, the time of our whole path." if budget else "."),
        "In italics the label multiplier: for the same mIoU the few labels alone need so many times as many labels (at the better of their budgets, interpolated on their own curve).",
    ]


def _scores(found: Sequence[Point], counts: Sequence[int], score: str, *, with_multiplier: bool = False) -> list[str]:
    curve = baseline_curve(found) if with_multiplier else []
    most = max(len(point.seeds) for point in found)
    by_place = {(point.row, point.labels): point for point in found}
    lines = [f"| | {' | '.join(f'{count} labels' for count in counts)} |", f"|---|{'---|' * len(counts)}"]
    for key in _rows(found):
        cells = []
        for count in counts:
            point = by_place.get((key, count))
            cells.append("" if point is None else _cell(point, score, most, curve))
        lines.append(f"| {ROWS[key].title} | {' | '.join(cells)} |")
    return lines


def _cell(point: Point, score: str, most: int, curve: Sequence[tuple[int, float]]) -> str:
    value = mean(point.values[score])
    if value is None:
        return "-"
    text = f"{value:.3f}"
    if score == "miou" and point.spread is not None:
        text += f" ± {point.spread:.3f}"
    if len(point.seeds) < most:
        text += f" ({len(point.seeds)})"
    worth = multiplier(point.miou, point.labels, curve)
    return text if worth is None else f"{text} *{worth}*"


def _per_class(found: Sequence[Point], count: int) -> list[str]:
    chosen = [point for point in found if point.labels == count]
    names = list(chosen[0].per_class_iou)
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for point in chosen:
        values = (mean(point.per_class_iou[name]) for name in names)
        cells = " | ".join("-" if value is None else f"{value:.3f}" for value in values)
        lines.append(f"| {ROWS[point.row].title} | {cells} |")
    return lines


def _cost(found: Sequence[Point], count: int) -> list[str]:
    lines = ["| | seconds | peak memory, GB | boundary IoU | calibration error |", "|---|---|---|---|---|"]
    for point in found:
        if point.labels == count:
            memory = "-" if point.peak_memory_bytes is None else f"{point.peak_memory_bytes / 1e9:.1f}"
            boundary, error = (mean(point.values[name]) for name in ("boundary_iou", "expected_calibration_error"))
            cells = [f"{point.seconds:.0f}", memory, *("-" if v is None else f"{v:.3f}" for v in (boundary, error))]
            lines.append(f"| {ROWS[point.row].title} | {' | '.join(cells)} |")
    return lines


def _rows(found: Sequence[Point]) -> list[str]:
    measured = {point.row for point in found}
    return [key for key in ROWS if key in measured]
