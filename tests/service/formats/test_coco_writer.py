from __future__ import annotations

import contextlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from service.formats.annotated_images import LabelClass
from service.formats.annotation_upload import read_annotations
from service.formats.coco_validator import validate_coco_zip
from service.formats.coco_writer import CocoExportError, write_coco_zip
from service.formats.shard import ShardSample
from tests.service.formats.test_zip_writer import check_with_unzip
from tests.service.formats.uploads import picture

CLASSES = (
    LabelClass("background", background=True),
    LabelClass("wall | <b>", color="#ff0000"),
    LabelClass("cell", thing=True, color="#00ff00"),
)
SIDE = 20


def samples(count: int = 4) -> list[ShardSample]:
    """Holes, parts, touching instances, ignored pixels."""
    many = []
    for n in range(count):
        label, ids = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint16)
        label[1:8, 1:8], label[3:5, 3:5], label[10:12, 1:3] = 1, 0, 1
        label[10:18, 6:18] = 2
        ids[10:18, 6 : 10 + n], ids[10:18, 10 + n : 18] = 1, 300
        label[0, 10:] = 255
        meta = {"name": f"{n}.jpg", "uncertainty": 0.5, "unknown": 1}
        many.append(ShardSample(f"{n:06}", picture(n, SIDE, SIDE), label, ids, meta=meta))
    return many


def export(
    path: Path, many: list[ShardSample], classes: tuple[LabelClass, ...] = CLASSES, **options: Any
) -> dict[str, Any]:
    with path.open("w+b") as file:
        return write_coco_zip(
            file, classes=classes, shards=many, info={"description": "a | <b>", "license": "CC0"}, **options
        )


def loaded(path: Path) -> COCO:
    coco = COCO()
    with zipfile.ZipFile(path) as archive:
        coco.dataset = json.loads(archive.read("annotations.json"))
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def average_precision(path: Path) -> float:
    """COCOeval of the export's masks against themselves."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = loaded(path)
        results = [
            {**{k: a[k] for k in ("image_id", "category_id", "segmentation")}, "score": 1.0}
            for a in truth.dataset["annotations"]
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


def test_pycocotools_reads_exactly_the_label_maps(tmp_path: Path) -> None:
    many = samples()
    stats = export(tmp_path / "a.zip", many)
    assert stats["validation"]["valid"]
    assert (stats["num_images"], stats["num_annotations"]) == (4, 12)
    assert stats["class_annotations"] == [0, 4, 8]
    coco = loaded(tmp_path / "a.zip")
    for number, sample in enumerate(many, start=1):
        rebuilt = np.zeros((SIDE, SIDE), np.uint8)
        for a in coco.imgToAnns[number]:
            mask = coco.annToMask(a).astype(bool)
            assert a["area"] == mask.sum() == pycocotools.mask.area(a["segmentation"])
            assert a["bbox"] == pycocotools.mask.toBbox(a["segmentation"]).tolist()
            assert a["iscrowd"] == 0
            rebuilt[mask] = a["category_id"]
        ignored = pycocotools.mask.decode(coco.imgs[number]["ignore"]).astype(bool)
        rebuilt[ignored] = 255
        assert np.array_equal(rebuilt, sample.label_HW)  # type: ignore[arg-type]
    assert average_precision(tmp_path / "a.zip") == 1.0


def test_records_are_what_tools_expect(tmp_path: Path) -> None:
    export(tmp_path / "a.zip", samples())
    document = loaded(tmp_path / "a.zip").dataset
    assert [(c["id"], c["name"], c["isthing"], c["supercategory"]) for c in document["categories"]] == [
        (1, "wall | <b>", 0, "stuff"),
        (2, "cell", 1, "thing"),
    ]
    assert document["images"][0] == {
        "id": 1,
        "file_name": "000000.png",
        "height": SIDE,
        "width": SIDE,
        "uncertainty": 0.5,
        "name": "0.jpg",
        "ignore": document["images"][0]["ignore"],
    }
    assert [a["id"] for a in document["annotations"]] == list(range(1, 13))
    assert document["licenses"] == [{"id": 1, "name": "CC0", "url": ""}]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        assert {i.compress_type for i in archive.infolist()} == {zipfile.ZIP_STORED}
        assert "<b>" not in archive.read("README.md").decode()
        assert json.loads(archive.read("validation.json"))["valid"]
    assert {"images/000000.png", "masks/000000.png", "annotations.json", "classes.json"} <= set(names)


def test_an_export_is_an_upload_again(tmp_path: Path) -> None:
    many = samples()
    export(tmp_path / "a.zip", many)
    for form in ("coco", "masks"):
        upload = read_annotations(tmp_path / "a.zip", format=form)  # type: ignore[arg-type]
        assert upload.classes[1:] == CLASSES[1:]
        for sample, image in zip(many, upload.images, strict=True):
            assert np.array_equal(image.image_HWC, sample.image_HWC)
            assert np.array_equal(image.label_HW, sample.label_HW)  # type: ignore[arg-type]
    instances = next(iter(read_annotations(tmp_path / "a.zip").images)).instances_HW
    assert np.array_equal(instances > 0, many[0].instances_HW > 0)  # type: ignore[operator]
    assert len(np.unique(instances)) == 3  # type: ignore[arg-type]


def test_the_same_samples_are_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        export(tmp_path / name, samples())
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_dropped_samples_are_left_out_and_counted(tmp_path: Path) -> None:
    stats = export(tmp_path / "a.zip", samples(), keep=lambda sample: sample.key != "000002")
    assert (stats["num_images"], stats["num_skipped"]) == (3, 1)
    assert [i["id"] for i in loaded(tmp_path / "a.zip").dataset["images"]] == [1, 2, 3]


def test_more_records_than_one_chunk(tmp_path: Path) -> None:
    many = [
        ShardSample(f"{n:04}", picture(1, 4, 4), np.array([[1, 0]], np.uint8).repeat(4, 0).repeat(2, 1))
        for n in range(500)
    ]
    stats = export(tmp_path / "a.zip", many)
    assert stats["validation"]["num_annotations"] == 500 == len(loaded(tmp_path / "a.zip").dataset["annotations"])


def test_no_kept_image_is_an_empty_dataset_that_loads(tmp_path: Path) -> None:
    stats = export(tmp_path / "a.zip", [])
    assert stats["num_images"] == 0
    assert loaded(tmp_path / "a.zip").dataset["images"] == []


@pytest.mark.parametrize(
    "sample",
    [
        ShardSample("a", picture(1, 4, 4)),
        ShardSample("a", picture(1, 4, 4), np.zeros((5, 5), np.uint8)),
        ShardSample("a", picture(1, 4, 4), np.full((4, 4), 3, np.uint8)),
    ],
)
def test_samples_that_cannot_be_exported_are_refused(tmp_path: Path, sample: ShardSample) -> None:
    with pytest.raises(ValueError, match="sample 'a'"):
        export(tmp_path / "a.zip", [sample])


@pytest.mark.parametrize("keys", [["1", "1"], ["2", "1"], ["10", "9"], ["1", "2", "1"]])
def test_samples_come_in_order_and_once(tmp_path: Path, keys: list[str]) -> None:
    many = [ShardSample(key, picture(1, 4, 4), np.zeros((4, 4), np.uint8)) for key in keys]
    with pytest.raises(ValueError, match=f"sample '{keys[-1]}' comes after '{keys[-2]}'"):
        export(tmp_path / "a.zip", many)


def test_keys_ascend_as_numbers_do(tmp_path: Path) -> None:
    many = [ShardSample(key, picture(1, 4, 4), np.zeros((4, 4), np.uint8)) for key in ("9", "10", "0999", "1000")]
    assert export(tmp_path / "a.zip", many)["validation"]["valid"]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist()[2:4] == ["images/10.png", "masks/10.png"]


def test_other_tools_find_the_zip_whole(tmp_path: Path) -> None:
    export(tmp_path / "a.zip", samples())
    check_with_unzip(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None


labels = hnp.arrays(np.uint8, (7, 9), elements=st.sampled_from([0, 1, 2, 2, 255]))
ids = hnp.arrays(np.uint16, (7, 9), elements=st.sampled_from([0, 1, 2, 65_535]))
pairs = st.lists(st.tuples(labels, ids), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(pairs, st.booleans())
def test_any_label_map_is_exported_exactly(
    tmp_path_factory: pytest.TempPathFactory, maps: list[Any], background: bool
) -> None:
    classes = CLASSES if background else (LabelClass("floor"), *CLASSES[1:])
    many = [ShardSample(f"{n}", picture(n, 7, 9), label, ids) for n, (label, ids) in enumerate(maps)]
    path = tmp_path_factory.mktemp("export") / "a.zip"
    assert export(path, many, classes)["validation"]["valid"]
    coco = loaded(path)
    shift = 0 if background else 1
    for number, (label, _) in enumerate(maps, start=1):
        rebuilt = np.full((7, 9), 0 if background else 255, np.uint8)
        for a in coco.imgToAnns[number]:
            rebuilt[coco.annToMask(a).astype(bool)] = a["category_id"] - shift
        if "ignore" in coco.imgs[number]:
            rebuilt[pycocotools.mask.decode(coco.imgs[number]["ignore"]).astype(bool)] = 255
        assert np.array_equal(rebuilt, label)


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if (data := change(name, old.read(name))) is not None:
                new.writestr(name, data)
    return target


def edited(**record: Any) -> Callable[[str, bytes], bytes]:
    """Members of the first annotation replaced, one record per line kept."""

    def change(name: str, data: bytes) -> bytes:
        if name != "annotations.json":
            return data
        lines = data.split(b"\n")
        at = lines.index(b'"annotations":[') + 1
        lines[at] = json.dumps({**json.loads(lines[at].rstrip(b",")), **record}).encode() + b","
        return b"\n".join(lines)

    return change


def vast(name: str, data: bytes) -> bytes:
    """The second image's header claims two thousand million pixels a row, with a right checksum."""
    if name != "images/000001.png":
        return data
    header = data[12:16] + b"\x7f\xff\xff\xff" + data[20:29]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (vast, "cannot be read"),
        (edited(area=1), "pixel count"),
        (edited(bbox=[0, 0, 1, 1]), "true box"),
        (edited(bbox=[1, 1, 6, 10]), "true box"),
        (edited(iscrowd=1), "iscrowd"),
        (edited(id=5), "numbering"),
        (edited(category_id=9), "no category"),
        (edited(category_id=2), "pixels differ"),
        (edited(image_id=3), "not there, or are out of order"),
        (edited(segmentation={"size": [SIDE, SIDE], "counts": "5O5O5O"}), "negative"),
        (edited(segmentation={"size": [9, 9], "counts": "a"}), "image's size"),
        (lambda n, d: None if n == "images/000001.png" else d, "not in the archive"),
        (lambda n, d: None if n == "masks/000001.png" else d, "not in the archive"),
        (lambda n, d: d[:50] if n == "images/000001.png" else d, "cannot be read"),
        (lambda n, d: d.replace(b'"cell"', b'"wall"') if n == "annotations.json" else d, "are not those"),
        (lambda n, d: d.replace(b'"000001.png"', b'"000000.png"') if n == "annotations.json" else d, "named twice"),
        (lambda n, d: d[:-200] if n == "annotations.json" else d, "cannot be read"),
        (lambda n, d: d.replace(b'"ignore"', b'"ignored"') if n == "annotations.json" else d, "pixels differ"),
        (lambda n, d: None if n == "annotations.json" else d, "cannot be read"),
    ],
)
def test_the_validator_finds_each_damage(tmp_path: Path, change: Callable[[str, bytes], bytes], says: str) -> None:
    export(tmp_path / "a.zip", samples())
    assert validate_coco_zip(tmp_path / "a.zip")["valid"]
    report = validate_coco_zip(rewritten(tmp_path / "a.zip", tmp_path / "b.zip", change))
    assert not report["valid"]
    assert says in " ".join(p["place"] + " " + p["message"] for p in report["problems"])


def test_a_file_without_a_record_is_found(tmp_path: Path) -> None:
    export(tmp_path / "a.zip", samples())
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("images/extra.png", b"x")
    assert validate_coco_zip(tmp_path / "a.zip")["problems"] == [
        {"place": "images/extra.png", "message": "has no record"}
    ]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An export of three images."""
    path = tmp_path_factory.mktemp("sound") / "a.zip"
    export(path, samples(3))
    return path.read_bytes()


PICTURES = [f"{folder}/{number:06}.png" for number in range(3) for folder in ("images", "masks")]
listings = st.one_of(
    st.permutations(PICTURES),
    st.lists(st.sampled_from(PICTURES), max_size=8),
    st.tuples(st.sampled_from(["images/a.png", "masks/0000001.png", *PICTURES]), st.integers(0, 6)).map(
        lambda more: [*PICTURES[: more[1]], more[0], *PICTURES[more[1] :]]
    ),
    st.integers(0, 5).map(lambda left_out: PICTURES[:left_out] + PICTURES[left_out + 1 :]),
)


@settings(max_examples=100, deadline=None)
@given(listings)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_images_and_masks_are_those_of_the_records_each_once_and_in_order(sound: bytes, listing: list[str]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sound)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in listing:
            new.writestr(name, old.read(name) if name in PICTURES else b"x")
        for name in ("annotations.json", "classes.json"):
            new.writestr(name, old.read(name))
    report = validate_coco_zip(buffer)
    assert report["valid"] == (listing == PICTURES)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_byte_is_reported_or_changes_nothing(sound: bytes, data: st.DataObject) -> None:
    at, bit = data.draw(st.integers(0, len(sound) - 1)), data.draw(st.integers(0, 7))
    changed = sound[:at] + bytes([sound[at] ^ 1 << bit]) + sound[at + 1 :]
    if validate_coco_zip(io.BytesIO(changed))["valid"]:
        with zipfile.ZipFile(io.BytesIO(changed)) as new, zipfile.ZipFile(io.BytesIO(sound)) as old:
            assert new.namelist()[:8] == old.namelist()[:8]
            assert all(new.read(name) == old.read(name) for name in old.namelist()[:8])


def test_a_damaged_image_is_reported_at_its_record(tmp_path: Path, sound: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(sound)) as archive:
        at = archive.getinfo("images/000001.png").header_offset + 80
    (tmp_path / "a.zip").write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
    report = validate_coco_zip(tmp_path / "a.zip")
    (only,) = report["problems"]
    assert only["place"] == "annotations.json: images[1]"
    assert "'images/000001.png' is damaged" in only["message"]
    assert report["num_annotations"] == validate_coco_zip(io.BytesIO(sound))["num_annotations"]


def test_what_is_no_zip_is_a_report_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"nothing")
    assert not validate_coco_zip(tmp_path / "a.zip")["valid"]


def test_an_export_that_does_not_validate_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.formats.rle.encode_regions", lambda *_, **__: [])
    with pytest.raises(CocoExportError) as caught:
        export(tmp_path / "a.zip", samples())
    assert not caught.value.report["valid"]
