from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.formats.annotated_images import AnnotationUpload, LabelClass
from service.formats.annotation_upload import read_annotations
from tests.service.formats.uploads import HEIGHT, WIDTH, faults, mask_members, picture, png, write_zip


def read(folder: Path, change: dict[str, bytes | None], **options: Any) -> AnnotationUpload:
    members = {**mask_members(), **change}
    path = write_zip(folder / "a.zip", {name: data for name, data in members.items() if data is not None})
    return read_annotations(path, **options)


def test_values_are_positions_in_the_class_list(tmp_path: Path) -> None:
    upload = read(tmp_path, {})
    assert [(c.name, c.background) for c in upload.classes] == [("background", True), ("cell", False), ("wall", False)]
    assert upload.format == "masks"
    image = next(iter(upload.images))
    assert image.name == "1.png"
    assert np.array_equal(image.image_HWC, picture(1))
    assert image.label_HW[0, 0] == 255
    assert (image.label_HW[1:5, 2:6] == 1).all()
    assert upload.statistics["class_pixels"] == [3 * (HEIGHT * WIDTH - 1 - 16 - 12), 3 * 16, 3 * 12]
    assert upload.statistics["ignore_pixels"] == 3


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("classes.txt", b"background\ncell\nwall\n"),
        ("pack.json", b'{"name": "x", "classes": ["background", "cell", "wall"]}'),
        (
            "classes.json",
            b'[{"name": "background"}, {"name": "cell", "isthing": 1, "color": "#ff0000"}, {"name": "wall"}]',
        ),
    ],
)
def test_class_lists_in_other_files(tmp_path: Path, file: str, text: bytes) -> None:
    upload = read(tmp_path, {"classes.json": None, file: text})
    assert [c.name for c in upload.classes] == ["background", "cell", "wall"]
    assert len({c.color for c in upload.classes}) == 3


def test_a_pack_of_instances_and_the_caller_name_things(tmp_path: Path) -> None:
    pack = b'{"kind": "instance", "classes": ["background", "cell", "wall"]}'
    assert [c.thing for c in read(tmp_path, {"classes.json": pack}).classes] == [False, True, True]
    upload = read(tmp_path, {}, things=["cell"], classes=[LabelClass("none"), "cell", "wall"])
    assert [c.thing for c in upload.classes] == [False, True, False]


def test_patches_of_things_are_instances_unless_ids_are_given(tmp_path: Path) -> None:
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    label[0:2, 0:2] = label[2:4, 2:4] = label[8:10, 8:10] = 1
    label[6:8, 0:3] = 2
    upload = read(tmp_path, {"masks/1.png": png(label)}, things=["cell"])
    ids = next(iter(upload.images)).instances_HW
    assert ids is not None
    assert ids.dtype == np.uint16
    assert ids[0, 0] == ids[3, 3] != ids[9, 9]  # corners touch
    assert set(np.unique(ids)) == {0, 1, 2}
    given = {f"instances/{n}.png": png(np.full((HEIGHT, WIDTH), 300, np.uint16)) for n in (1, 2, 3)}
    ids = next(iter(read(tmp_path, given, things=["cell"]).images)).instances_HW
    assert ids is not None
    assert set(np.unique(ids)) == {0, 300}
    missing = {**given, "instances/2.png": png(np.zeros((HEIGHT, WIDTH), np.uint16)), "instances/3.png": None}
    places = faults(lambda: read(tmp_path, missing, things=["cell"]))
    assert places.keys() == {"instances/2.png", "images/3.png"}


@pytest.mark.parametrize(
    ("change", "place", "says"),
    [
        ({"masks/2.png": png(np.zeros((5, 5), np.uint8))}, "masks/2.png", "5x5"),
        ({"masks/2.png": png(np.full((HEIGHT, WIDTH), 7, np.uint8))}, "masks/2.png", "value 7"),
        ({"masks/2.png": png(np.full((HEIGHT, WIDTH), 511, np.uint16))}, "masks/2.png", "value 511"),
        ({"masks/2.png": png(picture(1))}, "masks/2.png", "mode RGB"),
        ({"masks/2.png": b"nothing"}, "masks/2.png", "not a readable PNG"),
        ({"masks/2.png": None}, "images/2.png", "no mask"),
        ({"images/2.png": None}, "masks/2.png", "no image"),
        ({"images/2.png": b"<svg/>"}, "images/2.png", "not a readable"),
        ({"images/2.png": None, "images/2.gif": b"GIF89a"}, "images/2.gif", "not a readable"),
        ({"images/2.png": png(picture(1, 8, 8))}, "images/2.png", "8x8"),
        ({"classes.json": b'["a", "a", "b"]'}, "classes.json[1]", "another class"),
        ({"classes.json": b'["a", 5, "b"]'}, "classes.json[1]", "neither"),
        ({"classes.json": b'[{"name": "a", "isthing": "x"}, "b", "c"]'}, "classes.json[0].isthing", "true nor false"),
        ({"classes.json": b'["background", "background_", "c"]'}, "classes.json", "one background"),
        ({"classes.json": b"{}"}, "classes.json: classes", "not a list"),
        ({"classes.json": b"[]"}, "classes.json", "not a list"),
        ({"classes.json": None}, "classes.json", "not in the archive"),
    ],
)
def test_faults_are_listed_with_their_place(
    tmp_path: Path, change: dict[str, bytes | None], place: str, says: str
) -> None:
    assert says in faults(lambda: read(tmp_path, change))[place]


def test_all_background_one_class_and_nothing_at_all_are_refused(tmp_path: Path) -> None:
    empty = png(np.zeros((HEIGHT, WIDTH), np.uint8))
    blank: dict[str, bytes | None] = {f"masks/{n}.png": empty for n in (1, 2, 3)}
    assert "the background" in faults(lambda: read(tmp_path, blank))["masks"]
    assert "one class only" in faults(lambda: read(tmp_path, {**blank, "classes.json": b'["cell"]'}))["classes"]
    assert faults(lambda: read_annotations(write_zip(tmp_path / "b.zip", {"readme.txt": b"x"}))).keys() == {"archive"}
    nothing = dict.fromkeys([f"{kind}/{n}.png" for kind in ("images", "masks") for n in (1, 2, 3)])
    assert "images" in faults(lambda: read(tmp_path, nothing, format="masks"))
    assert "first" in faults(lambda: read(tmp_path, {}, first=0))


def test_the_first_images_in_zip_order(tmp_path: Path) -> None:
    upload = read(tmp_path, {}, first=2)
    assert [i.name for i in upload.images] == ["1.png", "2.png"]
    assert upload.statistics["num_images"] == 2


def test_jpeg_images_in_subfolders_find_their_masks(tmp_path: Path) -> None:
    members = mask_members()
    moved = {name.replace("/1.png", "/deep/1.png"): data for name, data in members.items()}
    moved["images/deep/1.jpeg"] = moved.pop("images/deep/1.png")  # the content decides, not the name
    assert len(read_annotations(write_zip(tmp_path / "a.zip", moved)).images) == 3
