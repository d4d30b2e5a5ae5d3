"""The benchmark's pictures are there, of several rows and of a single one."""

from pathlib import Path

from PIL import Image

from cli.benchmark.plots import SPREAD, beside, draw, style
from cli.benchmark.results import Point
from cli.benchmark.rows import ROWS


def point(row: str, labels: int, *mious: float) -> Point:
    return Point(
        row=row,
        labels=labels,
        seeds=tuple(range(len(mious))),
        values={"miou": mious},
        per_class_iou={"cell": mious, "never": (None,) * len(mious)},
        seconds=12.0,
        peak_memory_bytes=None,
    )


def test_three_pictures_are_drawn(tmp_path: Path) -> None:
    found = [point("few", 5, 0.4, 0.5), point("few", 10, 0.5), point("label_encoded", 5, 0.6, 0.7)]
    assert draw(found, tmp_path) == ["miou.png", "classes.png", "cost.png"]
    for name in ("miou.png", "classes.png", "cost.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 800
            assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50


def test_a_row_that_no_picture_compares_is_drawn_alone_and_nothing_gives_no_picture(tmp_path: Path) -> None:
    assert draw([point("head", 10, 0.4)], tmp_path)
    assert draw([], tmp_path) == []


def test_no_two_rows_look_alike() -> None:
    assert len({style(row) for row in ROWS}) == len(ROWS)


def test_no_row_hides_another_and_the_curve_stands_at_its_labels() -> None:
    factors = beside(list(ROWS))
    assert factors["few"] == factors["few_long"] == 1.0
    others = [factor for row, factor in factors.items() if row not in ("few", "few_long")]
    assert len({round(factor, 3) for factor in others}) == len(others)
    assert 1 / SPREAD < min(others) < max(others) < SPREAD
    assert beside(["few"]) == {"few": 1.0}
