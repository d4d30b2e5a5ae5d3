from __future__ import annotations

import numpy as np
import pytest

from service.formats.annotated_images import LabelClass
from service.formats.colors import rgb
from service.formats.overlay import contact_sheet, default_colors, overlay

CLASSES = (LabelClass("background", background=True), LabelClass("cell", color="#ff0000"))


def halves() -> tuple[np.ndarray, np.ndarray]:
    image, label = np.full((4, 6, 3), 100, np.uint8), np.zeros((4, 6), np.uint8)
    label[:, 3:] = 1
    return image, label


def test_opacity_runs_from_the_image_to_the_colours() -> None:
    image, label = halves()
    assert np.array_equal(overlay(image, label, CLASSES, opacity=0), image)
    full = overlay(image, label, CLASSES, opacity=1)
    assert full[0, 5].tolist() == [255, 0, 0]
    assert full[0, 0].tolist() == [100, 100, 100]  # the background stays clear
    assert overlay(image, label, CLASSES, opacity=0.5)[0, 5].tolist() == [178, 50, 50]


def test_it_enlarges_without_smoothing() -> None:
    image, label = halves()
    large = overlay(image, label, CLASSES, opacity=1, scale=3)
    assert large.shape == (12, 18, 3)
    assert np.array_equal(large, overlay(image, label, CLASSES, opacity=1).repeat(3, 0).repeat(3, 1))


def test_touching_instances_are_outlined() -> None:
    image, label = halves()
    ids = np.zeros((4, 6), np.uint16)
    ids[:2, 3:], ids[2:, 3:] = 1, 2
    shown = overlay(image, label, CLASSES, opacity=0.5, instances_HW=ids, scale=4)
    assert set(shown[7, 14:22].reshape(-1).tolist()) == {255}
    assert shown[3, 18].tolist() == [178, 50, 50]
    plain = overlay(image, label, CLASSES, opacity=0.5, instances_HW=ids, scale=4, outline=False)
    assert plain[7, 18].tolist() == [178, 50, 50]


def test_ignored_pixels_are_hatched() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    shown = overlay(image, np.full((16, 16), 255, np.uint8), CLASSES)
    assert {tuple(c) for c in shown.reshape(-1, 3).tolist()} == {(0, 0, 0), (255, 0, 255)}


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        overlay(np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4), np.uint8), CLASSES)


def test_colours_are_distinct_stable_and_far_apart() -> None:
    many = default_colors(30)
    assert len(set(many)) == 30
    assert many[:5] == default_colors(5)
    table = np.array([rgb(c) for c in many], float)
    gaps = np.linalg.norm(table[:, None] - table[None], axis=2) + 1e9 * np.eye(30)
    assert gaps.min() > 40
    assert len(default_colors(250)) == 250


def test_a_contact_sheet_is_a_grid() -> None:
    tiles = [np.full((4, 6, 3), n, np.uint8) for n in range(5)]
    sheet = contact_sheet(tiles, columns=3, gap=2)
    assert sheet.shape == (2 * 6 + 2, 3 * 8 + 2, 3)
    assert sheet[2, 2, 0] == 0
    assert sheet[8, 10, 0] == 4
    assert sheet[0, 0, 0] == 255
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
