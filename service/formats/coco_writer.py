"""`write_coco_zip`: a dataset's shards -> one COCO zip, streamed; see `coco_layout` for what is inside."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.formats import rle
from service.formats.annotated_images import IGNORE, LabelClass, background_index
from service.formats.coco_card import data_card
from service.formats.coco_layout import (
    ANNOTATIONS,
    CARD,
    CLASSES,
    VALIDATION,
    RecordLines,
    categories,
    category_ids,
    document,
    file_order,
)
from service.formats.coco_validator import validate_coco_zip
from service.formats.colors import rgb
from service.formats.png import encode_image_png, encode_label_png
from service.formats.shard import ShardSample
from service.formats.zip_writer import ZipWriter

EXTRA_MEMBERS = ("uncertainty", "pool", "seed", "name")
"""Metadata of a sample that its COCO image record keeps."""


class CocoExportError(ValueError):
    """The written zip did not pass its own validation; `report` says why."""

    def __init__(self, report: dict[str, Any]) -> None:
        first = report["problems"][0] if report["problems"] else {"place": "", "message": "counts differ"}
        super().__init__(f"the COCO export is not valid: {first['place']}: {first['message']}")
        self.report = report


def write_coco_zip(
    fileobj: IO[bytes],
    *,
    classes: Sequence[LabelClass],
    shards: Iterable[ShardSample],
    info: dict[str, Any],
    keep: Callable[[ShardSample], bool] | None = None,
    scratch: Path | None = None,
) -> dict[str, Any]:
    """Writes to a seekable file open for reading and writing (`w+b`); the validator's report goes inside.

    `shards` is the samples of all shards one after another, keys ascending by `file_order`; `scratch` is a folder for
    the annotations and the zip's directory while the images stream: memory does not grow with the images. Returns
    `{num_images, num_annotations, num_skipped, num_bytes, class_annotations, class_pixels, ignore_pixels, validation}`.
    Raises `CocoExportError` when the report finds a fault, `ValueError` for a sample that cannot be exported.
    """
    with ZipWriter(fileobj, scratch) as archive:
        stats = _write(archive, classes, shards, info, keep, scratch)
        report = validate_coco_zip(fileobj)
        if not report["valid"] or any(
            report[key] != stats[key] for key in ("num_images", "num_annotations", "class_pixels")
        ):
            raise CocoExportError(report)
        archive.add(VALIDATION, orjson.dumps(report, option=orjson.OPT_INDENT_2))
        archive.finish()
    return {**stats, "num_bytes": fileobj.seek(0, 2), "validation": report}


def _write(
    archive: ZipWriter,
    classes: Sequence[LabelClass],
    shards: Iterable[ShardSample],
    info: dict[str, Any],
    keep: Callable[[ShardSample], bool] | None,
    scratch: Path | None,
) -> dict[str, Any]:
    """A whole zip, but for the report."""
    with tempfile.TemporaryFile(dir=scratch) as images, tempfile.TemporaryFile(dir=scratch) as annotations:
        writer = _Writer(archive, classes, RecordLines(images), RecordLines(annotations))
        for sample in shards:
            if keep is None or keep(sample):
                writer.add(sample)
            else:
                writer.num_skipped += 1
        writer.finish(info)
    archive.finish()
    return writer.statistics()


def annotation_record(
    region: rle.Region, shape: tuple[int, int], *, number: int, image: int, category: int
) -> dict[str, Any]:
    """The COCO annotation of a region of a map of `shape` (height, width), under these ids."""
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {"size": list(shape), "counts": region.counts.decode("ascii")},
        "area": region.area,
        "bbox": list(region.bbox),
        "iscrowd": 0,
    }


class _Writer:
    def __init__(
        self, archive: ZipWriter, classes: Sequence[LabelClass], images: RecordLines, annotations: RecordLines
    ) -> None:
        self._archive, self._classes, self._images, self._annotations = archive, classes, images, annotations
        self._ids = category_ids(classes)
        self._things = [index for index, c in enumerate(classes) if c.thing]
        self._palette = [rgb(c.color) for c in classes]
        self._skipped_keys = tuple(k for k in (background_index(classes), IGNORE) if k is not None)
        self._last_key = ""
        self._class_annotations = np.zeros(len(classes), np.int64)
        self._pixels = np.zeros(256, np.int64)
        self.num_skipped = 0

    def add(self, sample: ShardSample) -> None:
        """Writes image and mask, remembers the records."""
        label = sample.label_HW
        if label is None or label.shape != sample.image_HWC.shape[:2]:
            raise ValueError(f"sample {sample.key!r} has no label map of its image's size")
        if file_order(sample.key) <= file_order(self._last_key):
            raise ValueError(f"sample {sample.key!r} comes after {self._last_key!r}: twice, or out of order")
        self._last_key = sample.key
        pixels = np.bincount(label.reshape(-1), minlength=256)
        if pixels[len(self._classes) : IGNORE].any():
            raise ValueError(f"sample {sample.key!r} has a label value that is no class")
        self._pixels += pixels
        png = sample.image_png if sample.image_png is not None else encode_image_png(sample.image_HWC)
        self._archive.add(f"images/{sample.key}.png", png)
        self._archive.add(f"masks/{sample.key}.png", encode_label_png(label, self._palette))
        self._images.add(self._image_record(sample, label))
        for region in rle.encode_regions(self._regions(sample, label), skip=self._skipped_keys):
            self._annotations.add(self._annotation_record(region, (label.shape[0], label.shape[1])))

    def _image_record(self, sample: ShardSample, label: NDArray[np.uint8]) -> dict[str, Any]:
        height, width = label.shape
        record = {"id": self._images.count + 1, "file_name": f"{sample.key}.png", "height": height, "width": width}
        extra = {key: sample.meta[key] for key in EXTRA_MEMBERS if key in sample.meta}
        ignored = label == IGNORE
        if ignored.any():
            counts = rle.compress(rle.counts_from_mask(ignored))
            extra["ignore"] = {"size": [height, width], "counts": counts.decode("ascii")}
        return {**record, **extra}

    def _regions(self, sample: ShardSample, label: NDArray[np.uint8]) -> NDArray[np.integer]:
        """Class + 256 x instance on things, the class elsewhere: each value is one annotation."""
        if not self._things or sample.instances_HW is None:
            return label
        counted = np.isin(label, self._things)
        return label.astype(np.int32) + np.where(counted, sample.instances_HW.astype(np.int32) << 8, 0)

    def _annotation_record(self, region: rle.Region, shape: tuple[int, int]) -> dict[str, Any]:
        index = region.key & 0xFF
        self._class_annotations[index] += 1
        return annotation_record(
            region, shape, number=self._annotations.count + 1, image=self._images.count, category=self._ids[index]
        )

    def finish(self, info: dict[str, Any]) -> None:
        """Writes what follows the images."""
        licences = [{"id": 1, "name": info["license"], "url": info.get("license_url", "")}] if "license" in info else []
        head = {"info": info, "licenses": licences, "categories": categories(self._classes)}
        self._archive.add_chunks(ANNOTATIONS, document(head, self._images, self._annotations))
        listed = {"classes": [c.to_json() for c in self._classes]}
        self._archive.add(CLASSES, orjson.dumps(listed, option=orjson.OPT_INDENT_2))
        self._archive.add(CARD, data_card(self._classes, info, self.statistics()).encode())

    def statistics(self) -> dict[str, Any]:
        return {
            "num_images": self._images.count,
            "num_annotations": self._annotations.count,
            "num_skipped": self.num_skipped,
            "class_annotations": self._class_annotations.tolist(),
            "class_pixels": self._pixels[: len(self._classes)].tolist(),
            "ignore_pixels": int(self._pixels[IGNORE]),
        }
