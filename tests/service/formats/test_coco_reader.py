from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import ServiceError
from service.formats.annotated_images import AnnotationUpload, LabelClass
from service.formats.annotation_upload import read_annotations
from service.formats.limits import UploadLimits
from tests.service.formats.uploads import (
    HEIGHT,
    WIDTH,
    coco_document,
    coco_members,
    faults,
    picture,
    png,
    rectangle,
    rle_list,
    rle_text,
    write_zip,
)

Document = dict[str, Any]


def read(folder: Path, document: Any, **options: Any) -> AnnotationUpload:
    return read_annotations(write_zip(folder / "a.zip", coco_members(document)), **options)


def found(folder: Path, document: Any, **options: Any) -> dict[str, str]:
    return faults(lambda: read(folder, document, **options))


def one_image(*annotations: Document, things: tuple[int, ...] = ()) -> Document:
    """All annotations on image 1."""
    document = coco_document()
    filled = [{"id": n, "image_id": 1, "iscrowd": 0, **a} for n, a in enumerate(annotations, start=1)]
    for category in document["categories"]:
        category["isthing"] = int(category["id"] in things)
    return {**document, "annotations": filled}


def test_polygons_and_both_kinds_of_rle_become_label_maps(tmp_path: Path) -> None:
    upload = read(tmp_path, coco_document())
    assert [(c.name, c.background, c.thing) for c in upload.classes] == [
        ("background", True, False),
        ("cell", False, False),
        ("wall", False, False),
    ]
    assert (upload.format, upload.kind, upload.height, upload.width) == ("coco", "semantic", HEIGHT, WIDTH)
    images = list(upload.images)
    assert [i.name for i in images] == ["1.png", "2.png", "3.png"]
    assert np.array_equal(images[0].label_HW == 2, rectangle(0, 0, 5, 5))
    assert np.array_equal(images[1].label_HW == 1, rectangle(2, 2, 9, 9))
    polygon = coco_document()["annotations"][2]["segmentation"]
    assert np.array_equal(
        images[2].label_HW == 2, pycocotools.mask.decode(pycocotools.mask.frPyObjects(polygon, HEIGHT, WIDTH))[:, :, 0]
    )
    assert np.array_equal(images[1].image_HWC, picture(2))
    assert images[0].instances_HW is None
    assert upload.statistics["class_pixels"][1:] == [49, 25 + int((images[2].label_HW == 2).sum())]
    assert len(upload.images) == 3 == len(list(upload.images))


def test_parts_are_united_and_holes_survive(tmp_path: Path) -> None:
    hole = rectangle(1, 1, 8, 8) & ~rectangle(3, 3, 5, 5)
    parts = [[0.0, 9, 4, 9, 4, 12, 0, 12], [6.0, 9, 10, 9, 10, 12, 6, 12]]
    document = one_image({"category_id": 1, "segmentation": rle_text(hole)}, {"category_id": 2, "segmentation": parts})
    label = next(iter(read(tmp_path, document).images)).label_HW
    assert np.array_equal(label == 1, hole)
    assert np.array_equal(label == 2, rectangle(9, 0, 12, 4) | rectangle(9, 6, 12, 10))


@pytest.mark.parametrize("small_first", [True, False])
def test_the_smaller_annotation_lies_on_top(tmp_path: Path, small_first: bool) -> None:
    small = {"category_id": 1, "segmentation": rle_list(rectangle(4, 4, 6, 6))}
    large = {"category_id": 2, "segmentation": rle_list(rectangle(2, 2, 9, 9))}
    upload = read(tmp_path, one_image(*([small, large] if small_first else [large, small])))
    label = next(iter(upload.images)).label_HW
    assert np.array_equal(label == 1, rectangle(4, 4, 6, 6))
    assert upload.statistics["overlap_pixels"] == 4


def test_of_two_equal_annotations_the_later_lies_on_top(tmp_path: Path) -> None:
    same = rle_list(rectangle(2, 2, 9, 9))
    upload = read(
        tmp_path, one_image({"category_id": 1, "segmentation": same}, {"category_id": 2, "segmentation": same})
    )
    assert set(np.unique(next(iter(upload.images)).label_HW)) == {0, 2}


def test_things_get_instance_ids_and_crowds_are_ignored(tmp_path: Path) -> None:
    document = one_image(
        {"category_id": 1, "segmentation": rle_list(rectangle(0, 0, 3, 3))},
        {"category_id": 1, "segmentation": rle_list(rectangle(3, 0, 6, 3))},
        {"category_id": 1, "segmentation": rle_list(rectangle(0, 0, 12, 5)), "iscrowd": 1},
        {"category_id": 2, "segmentation": rle_list(rectangle(0, 6, 4, 9)), "iscrowd": 1},
        things=(1,),
    )
    upload = read(tmp_path, document)
    image = next(iter(upload.images))
    assert upload.kind == "instance"
    assert image.instances_HW is not None
    assert np.array_equal(image.instances_HW == 1, rectangle(0, 0, 3, 3))
    assert np.array_equal(image.instances_HW == 2, rectangle(3, 0, 6, 3))
    assert np.array_equal(image.label_HW == 255, rectangle(0, 0, 12, 5) & ~rectangle(0, 0, 6, 3))
    assert np.array_equal(image.label_HW == 2, rectangle(0, 6, 4, 9))  # iscrowd means nothing on a region
    assert (upload.statistics["num_instances"], upload.statistics["crowds"]) == (2, 1)


def test_things_may_be_named_by_supercategory_or_by_the_caller(tmp_path: Path) -> None:
    document = coco_document()
    document["categories"][0]["supercategory"] = "thing"
    assert [c.thing for c in read(tmp_path, document).classes] == [False, True, False]
    assert [c.thing for c in read(tmp_path, document, things=["wall"]).classes] == [False, False, True]
    assert [c.thing for c in read(tmp_path, document, things=[]).classes] == [False, False, False]
    assert "things" in found(tmp_path, document, things=["tree"])


def test_a_thing_of_crowds_only_is_refused(tmp_path: Path) -> None:
    crowd = {"category_id": 1, "segmentation": rle_list(rectangle(0, 0, 3, 3)), "iscrowd": 1}
    region = {"category_id": 2, "segmentation": rle_list(rectangle(5, 5, 8, 8))}
    assert "iscrowd 0" in found(tmp_path, one_image(crowd, region, things=(1,)))["annotations.json: categories[0]"]


def test_full_coverage_means_no_background_class(tmp_path: Path) -> None:
    document = coco_document()
    document["annotations"] = [
        {"id": 2 * n + side, "image_id": n, "category_id": 1 + side, "iscrowd": 0, "segmentation": rle_text(mask)}
        for n in (1, 2, 3)
        for side, mask in enumerate([rectangle(0, 0, 12, 4), rectangle(0, 4, 12, 10)])
    ]
    assert [c.name for c in read(tmp_path, document).classes] == ["cell", "wall"]
    document["annotations"].pop()
    upload = read(tmp_path, document, first=2)  # the third image decides too: the first N have the classes of the set
    assert [c.name for c in upload.classes] == ["background", "cell", "wall"]
    assert upload.statistics["num_images"] == len(upload.images) == 2
    assert "no background" in found(tmp_path, document, classes=["cell", "wall"])["images/3.png"]


def test_a_given_class_list_decides_order_and_background(tmp_path: Path) -> None:
    given_classes = [LabelClass("wall", color="#112233"), LabelClass("none", background=True), LabelClass("cell")]
    upload = read(tmp_path, coco_document(), classes=given_classes)
    assert [c.name for c in upload.classes] == ["wall", "none", "cell"]
    assert upload.classes[0].color == "#112233"
    assert set(np.unique(next(iter(upload.images)).label_HW)) == {0, 1}
    assert found(tmp_path, coco_document(), classes=["background", "cell"]) == {
        "annotations.json: categories[1].name": "'wall' is not in the class list"
    }


def test_an_ignore_region_of_an_image_is_ignored_where_nothing_is_annotated(tmp_path: Path) -> None:
    document = coco_document()
    document["images"][0]["ignore"] = rle_text(rectangle(0, 0, 12, 6))
    label = next(iter(read(tmp_path, document).images)).label_HW
    assert np.array_equal(label == 255, rectangle(0, 0, 12, 6) & ~rectangle(0, 0, 5, 5))


def test_images_are_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    members = coco_members(coco_document())
    moved = {
        name.replace("images/", "export/images/train/"): data for name, data in members.items() if "images" in name
    }
    moved["export/annotations/instances_train.json"] = members["annotations.json"]
    assert len(read_annotations(write_zip(tmp_path / "a.zip", moved)).images) == 3


def changed(path: str, value: Any) -> Document:
    """The valid document with one member set: `annotations.0.bbox`."""
    document = coco_document()
    *parents, last = path.split(".")
    at: Any = document
    for step in parents:
        at = at[int(step) if step.isdigit() else step]
    at[int(last) if last.isdigit() else last] = value
    return document


BIG = 2**70
SEGMENTATION = "annotations.0.segmentation"


@pytest.mark.parametrize(
    ("path", "value", "place"),
    [
        (f"{SEGMENTATION}", {"size": [10, 12], "counts": [120]}, "annotations[0].segmentation.size"),
        (f"{SEGMENTATION}", {"size": [2**31, 2**31], "counts": "0"}, "annotations[0].segmentation.size"),
        (f"{SEGMENTATION}", {"size": [0, 0], "counts": "0"}, "annotations[0].segmentation.size"),
        (f"{SEGMENTATION}.counts", "5O5O5O", "annotations[0].segmentation.counts"),
        (f"{SEGMENTATION}.counts", [119], "annotations[0].segmentation.counts"),
        (f"{SEGMENTATION}.counts", [121], "annotations[0].segmentation.counts"),
        (f"{SEGMENTATION}.counts", [130, -10], "annotations[0].segmentation.counts"),
        (f"{SEGMENTATION}.counts", [1.0] * 120, "annotations[0].segmentation.counts"),
        (f"{SEGMENTATION}.counts", ["120"], "annotations[0].segmentation.counts"),
        (f"{SEGMENTATION}.counts", [BIG], "annotations[0].segmentation.counts"),
        (f"{SEGMENTATION}.counts", "", "annotations[0].segmentation.counts"),
        (f"{SEGMENTATION}.counts", None, "annotations[0].segmentation.counts"),
        (SEGMENTATION, None, "annotations[0].segmentation"),
        (SEGMENTATION, [], "annotations[0].segmentation"),
        (SEGMENTATION, "x", "annotations[0].segmentation"),
        (SEGMENTATION, [[1, 1, 5, 5, 1]], "annotations[0].segmentation[0]"),
        (SEGMENTATION, [[1, 1, 5, 5, 1, 5, 7]], "annotations[0].segmentation[0]"),
        (SEGMENTATION, [[1, 1, 5, 1, 5, 5], [math.nan] * 6], "annotations[0].segmentation[1]"),
        (SEGMENTATION, [[math.inf, 1, 5, 1, 5, 5]], "annotations[0].segmentation[0]"),
        (SEGMENTATION, [[1e308, 1, 5, 1, 5, 5]], "annotations[0].segmentation[0]"),
        (SEGMENTATION, [[1e9, 1, 5, 1, 5, 5]], "annotations[0].segmentation[0]"),
        (SEGMENTATION, [[BIG, 1, 5, 1, 5, 5]], "annotations[0].segmentation[0]"),
        (SEGMENTATION, [["1", 1, 5, 1, 5, 5]], "annotations[0].segmentation[0]"),
        (SEGMENTATION, [[True, 1, 5, 1, 5, 5]], "annotations[0].segmentation[0]"),
        (SEGMENTATION, [[1.0] * 30_000], "annotations[0].segmentation[0]"),
        ("annotations.0.image_id", 99, "annotations[0].image_id"),
        ("annotations.0.image_id", True, "annotations[0].image_id"),
        ("annotations.0.category_id", 7, "annotations[0].category_id"),
        ("annotations.0.category_id", BIG, "annotations[0].category_id"),
        ("annotations.1.id", 1, "annotations[1].id"),
        ("annotations.1.id", "2", "annotations[1].id"),
        ("annotations.1", 5, "annotations[1]"),
        ("annotations.0.iscrowd", "yes", "annotations[0].iscrowd"),
        ("annotations.0.bbox", [0, 0, -1, 5], "annotations[0].bbox"),
        ("annotations.0.bbox", [0, 0, math.nan, 5], "annotations[0].bbox"),
        ("images.1.id", 1, "images[1].id"),
        ("images.0.height", 0, "images[0]"),
        ("images.0.height", 2**40, "images[0]"),
        ("images.0.height", "12", "images[0]"),
        ("images.0.file_name", "../../etc/passwd", "images[0].file_name"),
        ("images.0.file_name", "C:\\x.png", "images[0].file_name"),
        ("images.0.file_name", "CON", "images[0].file_name"),
        ("images.0.file_name", "x" * 5000, "images[0].file_name"),
        ("images.0.file_name", "4.png", "images[0].file_name"),
        ("images.0.file_name", "2.png", "images[1].file_name"),
        ("images.0.file_name", 4, "images[0].file_name"),
        ("categories.1.id", 1, "categories[1].id"),
        ("categories.1.name", "cell", "categories[1].name"),
        ("categories.1.name", "x" * 10_000, "categories[1]"),
        ("categories.1.name", "a\u202eb", "categories[1]"),
        ("categories.1.name", "\ud800", "categories[1]"),
        ("categories.1.name", 5, "categories[1]"),
        ("categories.0.isthing", "true", "categories[0].isthing"),
        ("categories.0.isthing", 2, "categories[0].isthing"),
        ("images", {}, ""),
    ],
)
def test_each_fault_is_listed_with_its_place(tmp_path: Path, path: str, value: Any, place: str) -> None:
    wanted = f"annotations.json: {place}" if place else "annotations.json"
    assert wanted in found(tmp_path, changed(path, value))


def test_every_fault_is_listed_at_once_up_to_a_hundred(tmp_path: Path) -> None:
    document = changed("annotations.0.image_id", 99)
    document["annotations"][1]["segmentation"]["counts"] = [1]
    document["categories"][0]["isthing"] = 7
    members = {**coco_members(document), "images/3.png": b"GIF89a nothing"}
    places = faults(lambda: read_annotations(write_zip(tmp_path / "a.zip", members)))
    assert len(places) == 4
    document["annotations"] = [{"id": n, "image_id": 9, "category_id": 1} for n in range(500)]
    many = found(tmp_path, document)
    assert len(many) == 101
    assert many[""].startswith("and 4")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"images": [], "images": [], "annotations": [], "categories": []}', "same key twice: 'images'"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "byte order mark"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"[" * 100_000, "nested"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too long"),
        (b'{"a": "\x00"}', "NUL"),
    ],
)
def test_what_is_no_strict_json_is_refused(tmp_path: Path, text: bytes, says: str) -> None:
    assert says in found(tmp_path, text)["annotations.json"]


def test_images_of_other_sizes_are_named(tmp_path: Path) -> None:
    members = coco_members(coco_document())
    members["images/2.png"] = png(picture(2, 20, 30))
    places = faults(lambda: read_annotations(write_zip(tmp_path / "a.zip", members)))
    assert "30x20" in places["images/2.png"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"annotations": []}, "the background"),
        ({"images": [], "annotations": []}, "no annotated image"),
        ({"categories": []}, "no category"),
    ],
)
def test_sets_that_teach_nothing_are_refused(tmp_path: Path, change: Document, says: str) -> None:
    assert says in " ".join(found(tmp_path, {**coco_document(), **change}).values())


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    whole = {"category_id": 1, "iscrowd": 0, "segmentation": rle_text(rectangle(0, 0, 12, 10))}
    document = coco_document()
    document["annotations"] = [{"id": n, "image_id": n, **whole} for n in (1, 2, 3)]
    document["categories"].pop()
    assert "one class only" in found(tmp_path, document)["classes"]


def test_markup_in_a_name_is_text(tmp_path: Path) -> None:
    assert read(tmp_path, changed("categories.0.name", "<img onerror=x>")).classes[1].name == "<img onerror=x>"


def test_limits_bound_images_classes_and_work(tmp_path: Path) -> None:
    for limits in (UploadLimits(max_images=2), UploadLimits(max_classes=1), UploadLimits(max_painted_pixels=1)):
        assert found(tmp_path, coco_document(), limits=limits)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "size", "counts", "name"]), inner)
    ),
    max_leaves=8,
)
paths = st.sampled_from(
    [f"{k}.{i}.{m}" for k, ms in {
        "images": ["id", "file_name", "height", "ignore"],
        "annotations": ["id", "image_id", "category_id", "segmentation", "iscrowd", "bbox"],
        "categories": ["id", "name", "isthing", "color", "supercategory"],
    }.items() for i in (0, 1) for m in ms]
    + ["images", "annotations", "categories", "images.0", "annotations.0", "categories.1", "annotations.0.segmentation.size",
       "annotations.0.segmentation.counts", "annotations.2.segmentation.0", "annotations.2.segmentation.0.3"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(paths, json_values)
def test_arbitrary_members_are_read_or_refused(path: str, value: Any) -> None:
    text = json.dumps(changed(path, value)).encode()
    with tempfile.TemporaryDirectory() as folder:
        try:
            upload = read(Path(folder), text)
        except ServiceError:
            return
        assert len(list(upload.images)) == len(upload.images)
