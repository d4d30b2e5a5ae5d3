"""`validate_coco_zip`: reads a written COCO zip again, by other code than wrote it, and holds it against its masks.

Streams: images, annotations and the zip's directory are walked side by side, merged like sorted lists.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.formats import rle
from service.formats.annotated_images import IGNORE, LabelClass, background_index
from service.formats.coco_layout import (
    ANNOTATIONS,
    ANNOTATIONS_LINE,
    CLASSES,
    IMAGES_LINE,
    LayoutError,
    categories,
    category_ids,
    file_order,
    names_of,
    read_head,
    read_records,
)
from service.formats.png import decode_plain_png
from service.formats.problems import FileProblem, ProblemList
from service.formats.zip_reader import ZipReader
from service.formats.zip_records import Member

CHECKS = (
    "every image and mask of the archive has a record, and every record its files, of the size it names",
    "image and annotation ids and file names are unique; every reference leads somewhere",
    "categories are the class list without the background, numbered from 1",
    "every RLE has runs that are not negative and sum to height x width",
    "areas are true pixel counts, boxes the true half-open boxes, iscrowd 0",
    "annotations do not overlap, and together they are the mask, pixel by pixel",
)
UNREADABLE = (zlib.error, OSError, LookupError, SyntaxError, ValueError, TypeError, EOFError)
"""What content that is not of this form may raise; `FileProblem` and `LayoutError` are `ValueError`."""


def validate_coco_zip(path: Path | str | IO[bytes]) -> dict[str, Any]:
    """`{valid, problems, num_images, num_annotations, class_annotations, class_pixels, checks}`.

    Never raises for content: a zip that cannot be read is a report that says so.
    """
    problems = ProblemList()
    validation: _Validation | None = None
    try:
        with _opened(path) as file:
            validation = _Validation(ZipReader(file), problems)
            validation.run()
    except UNREADABLE as error:
        problems.add(ANNOTATIONS if isinstance(error, LayoutError) else "archive", f"cannot be read: {error}")
    return {
        "valid": not problems,
        "problems": problems.listed,
        "num_problems": problems.count,
        **(validation.counts() if validation else {}),
        "checks": list(CHECKS),
    }


def _opened(path: Path | str | IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    return open(path, "rb") if isinstance(path, Path | str) else nullcontext(path)


class _Validation:
    def __init__(self, archive: ZipReader, problems: ProblemList) -> None:
        self._archive, self._problems = archive, problems
        class_list, self._document = archive.find(CLASSES, ANNOTATIONS)
        listed = orjson.loads(archive.read(class_list))
        self._classes: list[LabelClass] = names_of(listed["classes"])
        self._labels = {number: index for index, number in category_ids(self._classes).items()}
        background = background_index(self._classes)
        self._bare = IGNORE if background is None else background
        self._files = _Files(archive.members(), problems)
        self._last_name = ""
        self._num_images = self._num_annotations = 0
        self._class_annotations = np.zeros(len(self._classes), np.int64)
        self._pixels = np.zeros(256, np.int64)

    def counts(self) -> dict[str, Any]:
        return {
            "num_images": self._num_images,
            "num_annotations": self._num_annotations,
            "class_annotations": self._class_annotations.tolist(),
            "class_pixels": self._pixels[: len(self._classes)].tolist(),
        }

    def run(self) -> None:
        head = read_head(self._archive.open(self._document))
        if head.get("categories") != categories(self._classes):
            self._problems.add(f"{ANNOTATIONS}: categories", f"are not those of {CLASSES}")
        annotations = _Groups(read_records(self._archive.open(self._document), ANNOTATIONS_LINE))
        last_image = 0
        for record in read_records(self._archive.open(self._document), IMAGES_LINE):
            place = f"{ANNOTATIONS}: images[{self._num_images}]"
            self._num_images += 1
            if type(record.get("id")) is not int or record["id"] <= last_image:
                self._problems.add(f"{place}.id", "is not larger than the one before")
                continue
            last_image = record["id"]
            its_annotations = list(enumerate(annotations.of(last_image), self._num_annotations))
            self._num_annotations += len(its_annotations)
            with self._problems.at(place):
                self._image(record, its_annotations)
        if annotations.left():
            self._problems.add(
                f"{ANNOTATIONS}: annotations", "refer to an image that is not there, or are out of order"
            )
        self._files.finish()

    def _image(self, record: dict[str, Any], annotations: list[tuple[int, dict[str, Any]]]) -> None:
        height, width, name = record["height"], record["width"], record["file_name"]
        if file_order(name) <= file_order(self._last_name):
            raise FileProblem(f"{name!r} comes after {self._last_name!r}: named twice, or out of order", ".file_name")
        self._last_name = name
        files = [self._files.take(f"{folder}/{name}") for folder in ("images", "masks")]
        image, mask = (decode_plain_png(self._archive.read(file)) for file in files)
        if image.shape != (height, width, 3) or mask.shape != (height, width):
            raise FileProblem("has another size than its image or its mask")
        painted = np.full((height, width), self._bare, np.uint8)
        taken = np.zeros((height, width), np.bool_)
        for index, annotation in annotations:
            with self._problems.at(f"{ANNOTATIONS}: annotations[{index}]"):
                self._annotation(index, annotation, painted, taken)
        if ignore := record.get("ignore"):
            ignored = rle.mask_from_counts(_counts(ignore, height, width), height, width)
            if (ignored & taken).any():
                raise FileProblem("covers annotated pixels", ".ignore")
            painted[ignored] = IGNORE
        if not np.array_equal(painted, mask):
            raise FileProblem(
                f"its annotations are not masks/{name}: {np.count_nonzero(painted != mask)} pixels differ"
            )
        self._pixels += np.bincount(mask.reshape(-1), minlength=256)

    def _annotation(
        self, index: int, record: dict[str, Any], painted: NDArray[np.uint8], taken: NDArray[np.bool_]
    ) -> None:
        height, width = painted.shape
        if record.get("id") != index + 1:
            raise FileProblem("does not continue the numbering from 1", ".id")
        label = self._labels.get(record.get("category_id", 0))
        if label is None:
            raise FileProblem("is the id of no category", ".category_id")
        counts = _counts(record.get("segmentation"), height, width)
        area = int(counts[1::2].sum())
        if area < 1 or record.get("area") != area:
            raise FileProblem(f"is not the pixel count {area}", ".area")
        if record.get("bbox") != list(rle.bbox(counts, height)):
            raise FileProblem("is not the true box", ".bbox")
        if record.get("iscrowd") != 0:
            raise FileProblem("is not 0", ".iscrowd")
        mask = rle.mask_from_counts(counts, height, width)
        if (mask & taken).any():
            raise FileProblem("overlaps another annotation", ".segmentation")
        taken |= mask
        painted[mask] = label
        self._class_annotations[label] += 1


class _Files:
    """Images and masks of the archive in its order, each to be taken once, without holding more than the next."""

    def __init__(self, members: Iterator[Member], problems: ProblemList) -> None:
        self._members = (member for member in members if member.name.startswith(("images/", "masks/")))
        self._next = next(self._members, None)
        self._problems = problems

    def take(self, name: str) -> Member:
        """The file of this name; what should have come before it has no record."""
        while self._next is not None and _place(self._next.name) < _place(name):
            self._skip(self._next)
        if self._next is None or self._next.name != name:
            before = "the end" if self._next is None else repr(self._next.name)
            raise FileProblem(f"{name!r} is not in the archive, or not before {before}", ".file_name")
        found, self._next = self._next, next(self._members, None)
        return found

    def finish(self) -> None:
        """What was not taken has no record."""
        while self._next is not None:
            self._skip(self._next)

    def _skip(self, member: Member) -> None:
        self._problems.add(member.name, "has no record")
        self._next = next(self._members, None)


def _place(name: str) -> tuple[tuple[int, str], str]:
    """A file's place in the layout: an image, then its mask."""
    folder, _, file = name.partition("/")
    return file_order(file), folder


class _Groups:
    """Annotations image by image, without holding more than one image's."""

    def __init__(self, records: Iterator[dict[str, Any]]) -> None:
        self._records = records
        self._next = next(records, None)

    def of(self, image_id: int) -> list[dict[str, Any]]:
        found = []
        while self._next is not None and self._next.get("image_id") == image_id:
            found.append(self._next)
            self._next = next(self._records, None)
        return found

    def left(self) -> bool:
        return self._next is not None


def _counts(value: object, height: int, width: int) -> rle.Counts:
    if not isinstance(value, dict) or value.get("size") != [height, width] or not isinstance(value.get("counts"), str):
        raise FileProblem("is not a compressed RLE of the image's size", ".segmentation")
    return rle.counts_from_string(value["counts"], height, width)
