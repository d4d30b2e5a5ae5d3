"""COCO JSON with its images in one zip -> a validated set of annotated images.

Classes are the categories in order of id. Pixels without an annotation are `background`, which is class 0, unless a
category has that name or every pixel of every image is annotated: then there is no background class. Things are the
categories with `isthing` 1, or without that key those whose `supercategory` is literally `thing`, or the names given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from service.formats.annotated_images import (
    BACKGROUND_NAME,
    IGNORE,
    AnnotatedImage,
    AnnotationUpload,
    LabelClass,
    background_index,
)
from service.formats.archive import Archive
from service.formats.class_lists import is_background_name, read_class_list, with_colors, with_things
from service.formats.coco_document import CocoDocument, read_document
from service.formats.coco_links import Link, find_documents, link_images
from service.formats.image_files import decode_image
from service.formats.label_painter import NONE, UNDECIDED, Painting, paint
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem, ProblemList
from service.formats.set_tally import SetTally, ZipImages
from service.formats.strict_documents import load_json

REFUSAL = "The annotated images cannot be accepted"
COUNTED = ("overlap_pixels", "empty_annotations", "hidden_instances", "crowds")


@dataclass(frozen=True)
class _Plan:
    """What a later reading needs: which files, which annotations, which label for which category."""

    links: list[Link]
    things: frozenset[int]
    labels: NDArray[np.uint8]
    """Label value by painted index; `NONE` and `UNDECIDED` index it from the end."""
    instances: bool
    limits: UploadLimits

    def read(self, archive: Archive, index: int) -> AnnotatedImage:
        record, entry = self.links[index]
        painting = paint(record, self.things, self.limits, ProblemList())
        image = decode_image(archive.read(entry, self.limits.max_image_bytes), self.limits)
        label = np.ascontiguousarray(self.labels[painting.index_HW])
        instances = np.ascontiguousarray(painting.instances_HW) if self.instances else None
        return AnnotatedImage(PurePosixPath(entry.path).name, image, label, instances)


class CocoReading:
    """One pass over a COCO zip that collects every fault."""

    def __init__(
        self,
        archive: Archive,
        limits: UploadLimits,
        classes: Sequence[LabelClass | str] | None,
        things: Sequence[str] | None,
    ) -> None:
        self._archive, self._limits, self._thing_names = archive, limits, things
        self._problems = ProblemList()
        self._given: tuple[LabelClass, ...] | None = None
        if classes is not None:
            listed = read_class_list(classes, "classes", limits, self._problems)
            self._given = with_things(listed, things, self._problems)
        self._tally = SetTally()
        self._counted = dict.fromkeys(COUNTED, 0)
        self._painted_pixels = 0
        self._bare: list[str] = []
        """Files with pixels that no annotation covers."""

    def upload(self, zip_path: Path | str, first: int | None) -> AnnotationUpload:
        """The set, or `Invalid` with every fault."""
        document, file = self._document()
        links, unlisted = link_images(self._archive, document, self._problems)
        members = self._member_classes(document)
        things = frozenset(i for i, c in enumerate(members) if c.thing)
        pixels = np.zeros(len(members) + 2, np.int64)
        for index, link in enumerate(links):
            painting = self._paint(link, things)
            if first is None or index < first:
                self._check_image(link)
                self._count(painting, pixels)
        self._crowd_faults(document, members)
        classes, labels = self._final_classes(members)
        self._tally.add_pixels(np.bincount(labels, weights=pixels, minlength=256).astype(np.int64))
        self._tally.check(classes, self._problems)
        self._problems.refuse_if_any(REFUSAL)
        plan = _Plan(links[:first], things, labels, any(c.thing for c in classes), self._limits)
        statistics = {**self._tally.statistics(classes), **self._counted, "unlisted_images": unlisted, "document": file}
        height, width = self._tally.sizes.size or (0, 0)
        images = ZipImages(zip_path, self._limits, len(plan.links), plan.read)
        return AnnotationUpload(classes, images, "coco", height, width, statistics)

    def _document(self) -> tuple[CocoDocument, str]:
        entries = find_documents(self._archive)
        place = entries[0].name if entries else "annotations.json"
        document = CocoDocument((), ())
        with self._problems.at(place):
            if len(entries) != 1:
                names = ", ".join(e.name for e in entries[:5])
                raise FileProblem(f"is one of several JSON files: {names}" if entries else "is not in the archive")
            value = load_json(self._archive.read(entries[0], self._limits.max_json_bytes))
            document = read_document(value, place, self._limits, self._problems)
        if not document.images and self._problems:
            self._problems.refuse_if_any(REFUSAL)
        return document, place

    def _member_classes(self, document: CocoDocument) -> tuple[LabelClass, ...]:
        """One class per category, in document order."""
        members = []
        given = {c.name: c for c in self._given or ()}
        for category in document.categories:
            background = is_background_name(category.name)
            c = LabelClass(category.name, category.thing and not background, category.color, background)
            if self._given is not None and category.name not in given:
                self._problems.add(f"{category.place}.name", f"{category.name!r} is not in the class list")
            elif self._given is not None:
                listed = given[category.name]
                c = replace(
                    listed, thing=listed.thing or (self._thing_names is None and c.thing and not listed.background)
                )
            members.append(c)
        return tuple(members) if self._given is not None else with_things(members, self._thing_names, self._problems)

    def _paint(self, link: Link, things: frozenset[int]) -> Painting:
        record, entry = link
        if self._painted_pixels > self._limits.max_painted_pixels:
            self._problems.add(record.place, "the annotations of this set cover too many pixels together")
            self._problems.refuse_if_any(REFUSAL)
        painting = paint(record, things, self._limits, self._problems)
        self._painted_pixels += painting.painted_pixels
        if (painting.index_HW == NONE).any():
            self._bare.append(entry.name)
        return painting

    def _check_image(self, link: Link) -> None:
        record, entry = link
        with self._problems.at(entry.name):
            image = decode_image(self._archive.read(entry, self._limits.max_image_bytes), self._limits)
            self._tally.add_image(image)
            if fault := self._tally.sizes.fault(image):
                raise FileProblem(fault)
            if image.shape[:2] != (record.height, record.width):
                size = f"{image.shape[1]}x{image.shape[0]}"
                raise FileProblem(f"is {size} (width x height) but {record.place} says {record.width}x{record.height}")

    def _count(self, painting: Painting, pixels: NDArray[np.int64]) -> None:
        pixels += np.bincount(painting.index_HW.reshape(-1).astype(np.int64) % len(pixels), minlength=len(pixels))
        self._tally.num_instances += painting.num_instances
        for name in COUNTED:
            self._counted[name] += getattr(painting, name)

    def _crowd_faults(self, document: CocoDocument, members: Sequence[LabelClass]) -> None:
        """A thing of which every mask is a crowd has no instance: the mark of an exporter that flags all RLE so."""
        crowds: dict[int, set[bool]] = {}
        for image in document.images:
            for annotation in image.annotations:
                crowds.setdefault(annotation.category, set()).add(annotation.crowd)
        for index, flags in crowds.items():
            if flags == {True} and members[index].thing:
                message = "is a thing, but all its annotations have iscrowd 1; export single objects with iscrowd 0"
                self._problems.add(document.categories[index].place, message)

    def _final_classes(self, members: Sequence[LabelClass]) -> tuple[tuple[LabelClass, ...], NDArray[np.uint8]]:
        """The class list, and the label value of each category followed by those of `UNDECIDED` and `NONE`."""
        classes = list(members)
        if self._given is not None:
            by_name = {c.name: c for c in members}
            classes = [by_name.get(c.name, c) for c in self._given]
        elif self._bare and background_index(classes) is None:
            classes.insert(0, LabelClass(BACKGROUND_NAME, background=True, color=""))
        background = background_index(classes)
        if background is None:
            for name in self._bare:
                self._problems.add(name, "has pixels without annotation, and the class list has no background")
        position = {c.name: index for index, c in enumerate(classes)}
        labels = np.full(len(members) + 2, IGNORE, np.uint8)
        labels[: len(members)] = [position.get(c.name, IGNORE) for c in members]
        labels[UNDECIDED], labels[NONE] = IGNORE, IGNORE if background is None else background
        return with_colors(classes), labels
