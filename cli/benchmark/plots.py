"""The benchmark's pictures: mIoU over labels, IoU of each class, what a score costs."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from cli.benchmark.results import BASELINES, Point, mean
from cli.benchmark.rows import ROWS

DPI = 110
MARKERS = "os^vDPX*<>"
SPREAD = 1.15
"""Points stand up to so far, as a factor, beside their number of labels; numbers of labels mostly double."""
COMPARED = ("few", "few_long", "self_training", "ddpm_seg", "dataset_ddpm", "label_encoded", "encoder", "ensemble")
"""Rows of the picture with one bar for each class: more would not be told apart."""


def draw(found: Sequence[Point], folder: Path) -> list[str]:
    """Write `miou.png`, `classes.png` and `cost.png` and return their names; none without points."""
    if not found:
        return []
    pictures = {"miou.png": _miou, "classes.png": _classes, "cost.png": _cost}
    for name, picture in pictures.items():
        figure = Figure(figsize=(8.5, 4.8), layout="constrained")
        picture(figure, found)
        figure.savefig(folder / name, dpi=DPI)
    return list(pictures)


def style(row: str) -> tuple[str, str]:
    """Colour and marker of a row: its own, the same in every picture of every pack."""
    place = list(ROWS).index(row)
    return "black" if row in BASELINES else f"C{place % 10}", MARKERS[(place + place // 10) % 10]


def beside(rows: Sequence[str]) -> dict[str, float]:
    """By what factor each row's points stand beside their number of labels, so that none hides another.

    The labels alone, whose curve is read off, stand where they belong.
    """
    others = [row for row in rows if row not in BASELINES]
    places = {row: SPREAD ** (2 * (index + 0.5) / len(others) - 1) for index, row in enumerate(others)}
    return {row: places.get(row, 1.0) for row in rows}


def _miou(figure: Figure, found: Sequence[Point]) -> None:
    axes = figure.add_subplot()
    for key, factor in beside(_rows(found)).items():
        color, marker = style(key)
        line = sorted((point for point in found if point.row == key), key=lambda point: point.labels)
        axes.errorbar(
            [point.labels * factor for point in line],
            [point.miou for point in line],
            yerr=[point.spread or 0.0 for point in line],
            color=color,
            linestyle={"few": "-", "few_long": "--"}.get(key, ":"),
            marker=marker,
            capsize=2,
            label=ROWS[key].title,
        )
    counts = sorted({point.labels for point in found})
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set(xlabel="annotated images (rows side by side)", ylabel="mIoU on held-out images")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="x-small")


def _classes(figure: Figure, found: Sequence[Point]) -> None:
    fewest = min(point.labels for point in found)
    shown = [point for point in found if point.labels == fewest and point.row in COMPARED] or [found[0]]
    names = list(shown[0].per_class_iou)
    axes = figure.add_subplot()
    width = 0.8 / len(shown)
    for index, point in enumerate(shown):
        places = [place + (index - (len(shown) - 1) / 2) * width for place in range(len(names))]
        heights = [mean(point.per_class_iou[name]) or 0.0 for name in names]
        axes.bar(places, heights, width, label=ROWS[point.row].title)
    axes.set_xticks(range(len(names)), names, rotation=30 if len(names) > 6 else 0)
    axes.set(ylabel="IoU", title=f"{fewest} labels")
    figure.legend(loc="outside right upper", fontsize="x-small")


def _cost(figure: Figure, found: Sequence[Point]) -> None:
    fewest = min(point.labels for point in found)
    axes = figure.add_subplot()
    for point in found:
        if point.labels == fewest:
            color, marker = style(point.row)
            axes.scatter(point.seconds, point.miou, color=color, marker=marker, label=ROWS[point.row].title)
    axes.set(xlabel="seconds, training of the generator left out", ylabel="mIoU", title=f"{fewest} labels")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="x-small")


def _rows(found: Sequence[Point]) -> list[str]:
    measured = {point.row for point in found}
    return [key for key in ROWS if key in measured]
