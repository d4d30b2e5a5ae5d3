"""From zips to stored tars: what is prepared, what is indexed, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service import object_keys, uploads
from service.bootstrap import Factory
from service.errors import Invalid, StorageFull
from service.formats.shard import read_shard
from service.settings import Settings
from service.upload_reading import AnnotationRequest
from tests.api.archives import coco_files, mask_files, photo, zipped

CLASSES = ["background", "cell"]


def write(folder: Path, body: bytes) -> Path:
    path = folder / "body.zip"
    path.write_bytes(body)
    return path


def test_a_set_is_stored_with_an_index_of_its_images(factory: Factory, tmp_path: Path) -> None:
    zip_path = write(tmp_path, zipped(mask_files()))
    request = AnnotationRequest("few", classes=CLASSES)
    prepared = uploads.prepare_annotation_set(zip_path, tmp_path, request, factory.settings)
    with factory.work() as work:
        row = uploads.store_annotation_set(work, prepared)
    index = json.loads(b"".join(factory.storage.get_stream(object_keys.annotation_index(row.key))))
    assert [entry["name"] for entry in index] == ["0.png", "1.png", "2.png"]
    with prepared.tar.open("rb") as file:
        samples = list(read_shard(file))
    for entry, sample in zip(index, samples, strict=True):
        assert factory.storage.get_range(row.key, *entry["members"]["png"]) == sample.image_png
    assert (row.num_images, row.kind) == (3, "semantic")


def test_the_same_zip_makes_the_same_tar(factory: Factory, tmp_path: Path) -> None:
    zip_path = write(tmp_path, zipped(coco_files()))
    request = AnnotationRequest("few", kind="instance")
    tars = [
        uploads.prepare_annotation_set(zip_path, tmp_path, request, factory.settings).tar.read_bytes() for _ in range(2)
    ]
    assert tars[0] == tars[1]


def test_semantic_and_things_exclude_each_other(settings: Settings, tmp_path: Path) -> None:
    request = AnnotationRequest("few", kind="semantic", things=["cell"])
    with pytest.raises(Invalid):
        uploads.prepare_annotation_set(write(tmp_path, zipped(coco_files())), tmp_path, request, settings)


def test_a_part_counts_its_duplicates(settings: Settings, tmp_path: Path) -> None:
    body = zipped({"a.png": photo(1), "b.png": photo(2), "c.png": photo(1)})
    part = uploads.prepare_pool_part(write(tmp_path, body), tmp_path, settings)
    assert (part.found.num_images, part.found.num_duplicates, part.found.image_height) == (2, 1, 16)


def test_no_upload_fills_the_disk(settings: Settings) -> None:
    uploads.require_space(settings)
    with pytest.raises(StorageFull):
        uploads.require_space(settings.model_copy(update={"min_free_bytes": 2**50}))
