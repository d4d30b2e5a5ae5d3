"""`images/*` + `masks/*.png` in one zip -> a validated set of annotated images.

A mask has its image's path with `.png` and is indexed or grey; its values are positions in the class list, 255 =
ignore. The class list is given by the caller, or is `classes.json`, `pack.json` or `classes.txt` (one name per line).
Instances of things come from `instances/*.png` (8 or 16 bit, an id from 1 per object); without that folder each
8-connected patch of a thing class is one instance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from service.formats.annotated_images import IGNORE, AnnotatedImage, AnnotationUpload, LabelClass
from service.formats.annotated_images import Instances_HW as Instances
from service.formats.archive import Archive
from service.formats.archive_entries import Entry
from service.formats.class_lists import read_class_list, with_things
from service.formats.coco_links import image_entries
from service.formats.image_files import decode_image, decode_values
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem, ProblemList
from service.formats.set_tally import SetTally, ZipImages
from service.formats.strict_documents import load_json, load_text

REFUSAL = "The annotated images cannot be accepted"
CLASS_FILES = ("classes.json", "pack.json", "classes.txt")
NEIGHBOURS = np.ones((3, 3), np.int64)
MAX_INSTANCES = 65_535


@dataclass(frozen=True)
class _Files:
    """The files of one annotated image."""

    image: Entry
    mask: Entry
    instances: Entry | None


@dataclass(frozen=True)
class _Plan:
    files: list[_Files]
    classes: tuple[LabelClass, ...]
    limits: UploadLimits

    def read(self, archive: Archive, index: int) -> AnnotatedImage:
        files = self.files[index]
        image = decode_image(archive.read(files.image, self.limits.max_image_bytes), self.limits)
        label = self.label(archive, files.mask)
        return AnnotatedImage(PurePosixPath(files.image.path).name, image, label, self.instances(archive, files, label))

    def label(self, archive: Archive, mask: Entry) -> NDArray[np.uint8]:
        """The checked label map. Raises `FileProblem`."""
        values = decode_values(archive.read(mask, self.limits.max_image_bytes), self.limits)
        unknown = np.setdiff1d(values, [*range(len(self.classes)), IGNORE])
        if len(unknown):
            shown = ", ".join(str(v) for v in unknown[:5])
            raise FileProblem(f"has the value {shown}; the class list has 0 to {len(self.classes) - 1}, ignore is 255")
        return values.astype(np.uint8)

    def instances(self, archive: Archive, files: _Files, label_HW: NDArray[np.uint8]) -> Instances | None:
        """Ids on thing pixels; None without thing classes. Raises `FileProblem`."""
        things = [index for index, c in enumerate(self.classes) if c.thing]
        if not things:
            return None
        if files.instances is None:
            return connected_instances(label_HW, things)
        ids = decode_values(archive.read(files.instances, self.limits.max_image_bytes), self.limits)
        if ids.shape != label_HW.shape:
            raise FileProblem(f"instance ids are {_size(ids)}, the mask is {_size(label_HW)} (width x height)")
        counted = np.isin(label_HW, things)
        if (ids[counted] == 0).any():
            raise FileProblem(f"{np.count_nonzero(ids[counted] == 0):,} pixels of a thing have no instance id")
        return np.where(counted, ids, 0).astype(np.uint16)


def connected_instances(label_HW: NDArray[np.uint8], things: Sequence[int]) -> Instances:
    """Each 8-connected patch of a thing class is an instance, numbered from 1. Raises `FileProblem` beyond 65,535."""
    # A sixth of the API's start, and only masks without instance ids ever need it.
    from scipy import ndimage  # noqa: PLC0415

    ids = np.zeros(label_HW.shape, np.int64)
    total = 0
    for thing in things:
        patches, count = ndimage.label(label_HW == thing, structure=NEIGHBOURS)
        ids = np.where(patches > 0, patches + total, ids)
        total += int(count)
    if total > MAX_INSTANCES:
        raise FileProblem(f"has {total:,} separate patches of things; at most {MAX_INSTANCES:,} are allowed")
    return ids.astype(np.uint16)


class MaskReading:
    """One pass over a zip of images and masks that collects every fault."""

    def __init__(
        self,
        archive: Archive,
        limits: UploadLimits,
        classes: Sequence[LabelClass | str] | None,
        things: Sequence[str] | None,
    ) -> None:
        self._archive, self._limits, self._given, self._things = archive, limits, classes, things
        self._problems = ProblemList()
        self._tally = SetTally()

    def upload(self, zip_path: Path | str, first: int | None) -> AnnotationUpload:
        """The set, or `Invalid` with every fault."""
        classes = with_things(self._classes(), self._things, self._problems)
        files = self._files()[:first]
        plan = _Plan(files, classes, self._limits)
        if classes:
            for one in files:
                self._check(plan, one)
            self._tally.check(classes, self._problems)
        self._problems.refuse_if_any(REFUSAL)
        height, width = self._tally.sizes.size or (0, 0)
        images = ZipImages(zip_path, self._limits, len(files), plan.read)
        return AnnotationUpload(classes, images, "masks", height, width, self._tally.statistics(classes))

    def _classes(self) -> tuple[LabelClass, ...]:
        if self._given is not None:
            return read_class_list(self._given, "classes", self._limits, self._problems)
        for name in CLASS_FILES:
            if entry := self._archive.find(name):
                with self._problems.at(entry.name):
                    data = self._archive.read(entry, self._limits.max_json_bytes)
                    value = load_json(data) if entry.suffix == ".json" else _lines(load_text(data))
                    return read_class_list(value, entry.name, self._limits, self._problems)
                return ()
        self._problems.add("classes.json", "is not in the archive; name the classes in it or in the request")
        return ()

    def _files(self) -> list[_Files]:
        """Images with their masks in archive order."""
        images = list(image_entries(self._archive))
        within = [e for e in images if PurePosixPath(e.path).parts[0] == "images"]
        masks = {_stem(e): e for e in self._archive.within("masks")}
        instances = {_stem(e): e for e in self._archive.within("instances")}
        files = []
        for entry in within or images:
            mask = masks.pop(_stem(entry), None)
            if mask is None:
                self._problems.add(entry.name, f"has no mask: masks/{_stem(entry)}.png is not in the archive")
            elif instances and _stem(entry) not in instances:
                self._problems.add(entry.name, f"has no instance ids: instances/{_stem(entry)}.png is missing")
            else:
                files.append(_Files(entry, mask, instances.get(_stem(entry))))
        for entry in masks.values():
            self._problems.add(entry.name, "is the mask of no image")
        if len(files) > self._limits.max_images:
            self._problems.add("images", f"are {len(files):,}; at most {self._limits.max_images:,} are allowed")
        return files

    def _check(self, plan: _Plan, files: _Files) -> None:
        image = label = None
        with self._problems.at(files.image.name):
            image = decode_image(self._archive.read(files.image, self._limits.max_image_bytes), self._limits)
            self._tally.add_image(image)
            if fault := self._tally.sizes.fault(image):
                raise FileProblem(fault)
        with self._problems.at(files.mask.name):
            label = plan.label(self._archive, files.mask)
            if image is not None and label.shape != image.shape[:2]:
                raise FileProblem(f"is {_size(label)} but its image is {_size(image)} (width x height)")
            self._tally.add_pixels(np.bincount(label.reshape(-1), minlength=256))
        if label is not None:
            with self._problems.at((files.instances or files.mask).name):
                ids = plan.instances(self._archive, files, label)
                self._tally.num_instances += 0 if ids is None else int(np.count_nonzero(np.unique(ids)))


def _stem(entry: Entry) -> str:
    """`images/a/1.jpg` and `masks/a/1.png` -> `a/1`."""
    path = PurePosixPath(entry.path)
    below = path.relative_to(path.parts[0]) if len(path.parts) > 1 else path
    return below.with_suffix("").as_posix()


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _size(array_HW: NDArray) -> str:
    return f"{array_HW.shape[1]}x{array_HW.shape[0]}"
