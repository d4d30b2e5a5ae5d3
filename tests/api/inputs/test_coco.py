"""Inputs 32 to 47: COCO documents whose masks, polygons, ids and names break libraries that trust them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.archives import SIZE, annotation, coco_files, zipped
from tests.api.inputs.served import COCO, Served

RLE = {"size": [SIZE, SIZE]}
AREA = SIZE * SIZE


def refused(served: Served, place: str, **changes: Any) -> str:
    """A document with a second annotation that is wrong; the fault's message."""
    wrong = annotation(2, **{"image_id": 2, "category_id": 2, **changes})
    [error] = served.refused_zip(zipped(coco_files(annotations=[annotation(1), wrong])), url=COCO)
    assert error["place"].startswith(f"annotations.json: annotations[1].{place}")
    return str(error["message"])


def refused_mask(served: Served, segmentation: object) -> str:
    return refused(served, "segmentation", segmentation=segmentation)


def refused_raw(served: Served, old: bytes, new: bytes) -> list[dict[str, Any]]:
    files = coco_files()
    assert old in files["annotations.json"]
    files["annotations.json"] = files["annotations.json"].replace(old, new, 1)
    return served.refused_zip(zipped(files), url=COCO)


def test_input_32_a_mask_of_2_to_the_31_is_422(served: Served) -> None:
    assert "the image is" in refused_mask(served, {"size": [2**31, 2**31], "counts": [4]})


def test_input_33_a_mask_of_no_size_is_422(served: Served) -> None:
    refused_mask(served, {"size": [0, 0], "counts": []})
    images = [{"id": i + 1, "file_name": f"images/{i}.png", "height": 0, "width": 0} for i in range(2)]
    served.refused_zip(zipped(coco_files(images=images)), url=COCO)


def test_input_34_a_negative_run_is_422(served: Served) -> None:
    refused_mask(served, {**RLE, "counts": "5O5O5O"})
    assert "negative" in refused_mask(served, {**RLE, "counts": [AREA, -5, 5]})


@pytest.mark.parametrize("counts", [[AREA, 5], [0, AREA + 1], [2**62, 2**62], [2**70]])
def test_input_35_more_pixels_than_the_image_are_422(served: Served, counts: list[int]) -> None:
    refused_mask(served, {**RLE, "counts": counts})


@pytest.mark.parametrize("counts", [[5, 5], [0], "11"])
def test_input_36_fewer_pixels_than_the_image_are_422(served: Served, counts: object) -> None:
    assert "covers" in refused_mask(served, {**RLE, "counts": counts})


@pytest.mark.parametrize("counts", ["", [], "\x00\x00", "\u20ac", None, {}, 7])
def test_input_37_counts_that_are_nothing_are_422(served: Served, counts: object) -> None:
    refused_mask(served, {**RLE, "counts": counts})


@pytest.mark.parametrize("counts", [[1.5, 254.5], ["1", "255"], [True, 255], [None]])
def test_input_38_counts_that_are_no_integers_are_422(served: Served, counts: list[object]) -> None:
    assert "whole numbers" in refused_mask(served, {**RLE, "counts": counts})


def test_input_38_ten_million_counts_are_422(served: Served) -> None:
    for counts in (b"[" + b"1," * (10**7 - 1) + b"1]", b'"' + b"1" * 10**7 + b'"'):
        segmentation = b'{"size": [16, 16], "counts": ' + counts + b"}"
        errors = refused_raw(served, b"[[2, 2, 10, 2, 10, 10, 2, 10]]", segmentation)
        assert errors[0]["place"] == "annotations.json: annotations[0].segmentation.counts"


def test_input_39_a_mask_of_another_size_than_its_image_is_422(served: Served) -> None:
    assert "[16, 17]" in refused_mask(served, {"size": [SIZE, SIZE + 1], "counts": [AREA + SIZE]})


@pytest.mark.parametrize("number", [b"1e308", b"-1e308", b"1e999", b"Infinity", b"1000000000"])
def test_input_40_a_polygon_beyond_all_bounds_is_422(served: Served, number: bytes) -> None:
    [error] = refused_raw(served, b"[[2, 2,", b"[[" + number + b", 2,")
    assert "not finite or lies far outside" in error["message"]


def test_input_41_a_polygon_of_not_a_number_is_422(served: Served) -> None:
    [error] = refused_raw(served, b"[[2, 2,", b"[[NaN, 2,")
    assert error["place"].startswith("annotations.json: annotations[0].segmentation[0]")


@pytest.mark.parametrize("polygons", [[[2, 2, 10, 2, 10]], [[2, 2, 10, 2]], [[]], [], [["1"] * 6], [[True] * 6], [7]])
def test_input_42_a_polygon_that_is_none_is_422(served: Served, polygons: list[object]) -> None:
    refused_mask(served, polygons)


def test_input_43_a_polygon_of_ten_million_numbers_is_422(served: Served) -> None:
    polygon = b"[[" + b"1," * (10**7 - 1) + b"1]]"
    [error] = refused_raw(served, b"[[2, 2, 10, 2, 10, 10, 2, 10]]", polygon)
    assert "5,000,000 points" in error["message"]


@pytest.mark.parametrize("box", [[2, 2, -8, 8], [2, 2, 8], "2 2 8 8", [2, 2, None, 8]])
def test_input_44_a_box_that_is_none_is_422(served: Served, box: object) -> None:
    refused(served, "bbox", bbox=box)


def test_input_44_a_box_outside_the_image_counts_for_nothing(served: Served) -> None:
    """The mask is the truth; boxes are made from it again."""
    body = zipped(coco_files(annotations=[annotation(1), annotation(2, image_id=2, bbox=[900, 900, 8, 8])]))
    assert served.taken_zip(body, url=COCO)["num_images"] == 2


def test_input_45_ids_that_are_shared_or_lead_nowhere_are_422_and_named(served: Served) -> None:
    assert "99" in refused(served, "image_id", image_id=99)
    assert "98" in refused(served, "category_id", category_id=98)
    images = [{"id": 7, "file_name": f"images/{i}.png", "height": SIZE, "width": SIZE} for i in range(2)]
    errors = served.refused_zip(zipped(coco_files(images=images)), url=COCO)
    assert any("is 7, the id of [0] too" in error["message"] for error in errors)
    errors = served.refused_zip(zipped(coco_files(annotations=[annotation(5), annotation(5)])), url=COCO)
    assert any("is 5," in error["message"] for error in errors)
    served.refused_zip(zipped(coco_files(annotations=[annotation(2**63)])), url=COCO)


@pytest.mark.parametrize("name", ["../../x", "C:\\x", "CON", "n" * 5_000, "/etc/passwd", "a\x00b", 7, None])
def test_input_46_a_file_name_that_is_none_is_422(served: Served, name: object) -> None:
    images = [
        {"id": 1, "file_name": name, "height": SIZE, "width": SIZE},
        {"id": 2, "file_name": "images/1.png", "height": SIZE, "width": SIZE},
    ]
    errors = served.refused_zip(zipped(coco_files(images=images)), url=COCO)
    assert errors[0]["place"] == "annotations.json: images[0].file_name"


def test_input_47_markup_in_a_class_name_is_stored_and_escaped(served: Served) -> None:
    name = "<img src=x onerror=alert(1)>"
    categories = [{"id": 1, "name": name}, {"id": 2, "name": "debris"}]
    made = served.taken_zip(zipped(coco_files(categories=categories)), url=COCO)
    assert name in [item["name"] for item in made["classes"]]
    page = served.http.get(f"/annotation-sets/{made['id']}").text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img src=x" not in page


@pytest.mark.parametrize("name", ["cell\u202ellec", "n" * 10_000, "a\nb", " ", ""])
def test_input_47_a_class_name_that_deceives_or_never_ends_is_422(served: Served, name: str) -> None:
    categories = [{"id": 1, "name": name}, {"id": 2, "name": "debris"}]
    errors = served.refused_zip(zipped(coco_files(categories=categories)), url=COCO)
    assert errors[0]["place"].startswith("annotations.json: categories[0]")
    assert len(json.dumps(errors)) < 5_000
