"""Where a report's filter curve lies in its picture."""

from typing import Any

import pytest

from api.dashboard.filter_curve import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, picture

CURVE: dict[str, Any] = {
    "shares": [0.0, 0.25, 0.5],
    "images": [0.50, 0.52, 0.56],
    "pixels": [0.50, None, 0.70],
    "num_images": 9,
    "dropped": {"drop_share": 0.125, "ignore_pixel_share": 0.25},
}


def points(segment: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in segment.split())]


def test_lines_span_the_axes_and_stop_where_nothing_is_known() -> None:
    drawn = picture({"filter_curve": CURVE})
    assert drawn is not None
    images, pixels = drawn.lines
    (line,) = images.segments
    assert [x for x, _ in points(line)] == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    assert len(pixels.segments) == 2
    assert (drawn.up[0].words, drawn.up[-1].words) == ("0.50", "0.70")
    assert (drawn.up[0].place, drawn.up[-1].place) == (HEIGHT - BOTTOM, TOP)
    assert points(line)[0][1] == HEIGHT - BOTTOM
    assert points(pixels.segments[1]) == [(WIDTH - RIGHT, TOP)]
    assert points(line)[2][1] == pytest.approx(TOP + (HEIGHT - TOP - BOTTOM) * 0.7, abs=0.1)
    assert [tick.words for tick in drawn.across] == ["0%", "10%", "20%", "30%", "40%", "50%"]


def test_the_jobs_own_share_is_marked_on_its_line() -> None:
    drawn = picture({"filter_curve": CURVE})
    assert drawn is not None
    images, pixels = drawn.lines
    first, second, _ = points(images.segments[0])
    assert images.mark == pytest.approx(((first[0] + second[0]) / 2, (first[1] + second[1]) / 2), abs=0.1)
    assert pixels.mark is None, "there is no value at its share"
    beyond = picture({"filter_curve": {**CURVE, "dropped": {"drop_share": 0.9, "ignore_pixel_share": 0.0}}})
    assert beyond is not None
    assert [line.mark is None for line in beyond.lines] == [True, False]


def test_reports_without_a_curve_have_no_picture() -> None:
    assert picture({}) is None
    assert picture({"filter_curve": None}) is None
    assert picture({"filter_curve": {**CURVE, "images": [None] * 3, "pixels": [None] * 3}}) is None


def test_a_flat_curve_is_drawn_too() -> None:
    flat = picture({"filter_curve": {**CURVE, "images": [1.0] * 3, "pixels": [1.0] * 3}})
    assert flat is not None
    assert {y for _, y in points(flat.lines[0].segments[0])} == {flat.up[-1].place}
