"""What a job refers to, looked up: each must be there, be ready, and go together with the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.errors import Invalid, fault
from service.lookup import find
from service.spec_parts import DETECTOR_SIDE, DETECTORS, INSTANCE_NETWORKS, StudentSpec
from service.student_weights import weights_faults
from service.tables import AnnotationSet, Dataset, Generator, ImagePool
from service.unit_of_work import Work


@dataclass(frozen=True)
class ImageSize:
    """The size that a job's images must have."""

    height: int
    width: int
    owner: str
    """Who says so, as the end of a sentence begins: "the generator portraits makes"."""

    def check(self, faults: Faults, place: str, noun: str, height: int | None, width: int | None) -> None:
        """Remember images of another size."""
        if (height, width) != (self.height, self.width):
            wanted = f"{self.owner} {self.height}x{self.width}"
            faults.add(place, f"The {noun} has images of {height}x{width}, {wanted}.")


class Faults:
    """Collects what is wrong."""

    def __init__(self) -> None:
        self.found: list[dict[str, str]] = []

    def add(self, place: str, message: str) -> None:
        """Remember one thing."""
        self.found.append(fault(place, message))

    def raise_if_any(self) -> None:
        """Raises Invalid with all that was found."""
        if self.found:
            raise Invalid(f"The job cannot be made: {self.found[0]['message']}", self.found)


def few(work: Work, faults: Faults, set_id: str, size: ImageSize | None) -> AnnotationSet | None:
    """The annotated images to learn from."""
    place = "annotation_set_id"
    few = annotation_set(work, faults, place, set_id, size)
    if few is not None and len(few.classes) < 2:
        faults.add(place, f"The annotation set {few.id} has one class only; at least two are needed.")
    return few


def network(work: Work, faults: Faults, student: StudentSpec, few: AnnotationSet | None) -> None:
    """The network, held against what it starts from and what it is to find."""
    faults.found += weights_faults(work.settings, student.architecture, student.weights)
    things = few is not None and any(item.get("thing", False) for item in few.classes)
    if student.architecture in INSTANCE_NETWORKS and few is not None and not things:
        why = f"{student.architecture} finds objects, and no class of the annotation set {few.id} is of things."
        faults.add("student.architecture", why)
    odd = few is not None and (few.image_height % DETECTOR_SIDE or few.image_width % DETECTOR_SIDE)
    if student.architecture in DETECTORS and few is not None and odd:
        why = f"{student.architecture} takes images whose sides are multiples of {DETECTOR_SIDE}"
        faults.add("student.architecture", f"{why}, these are {few.image_height}x{few.image_width}.")


def held_out(work: Work, faults: Faults, set_id: str | None, few: AnnotationSet | None, size: ImageSize | None) -> None:
    """The annotated images to measure on, where there are any."""
    found = None if set_id is None else annotation_set(work, faults, "evaluation_set_id", set_id, size)
    if few is not None and found is not None:
        check_unseen(faults, found.id, [few.id])
        check_classes(faults, "evaluation_set_id", found, few.classes, "annotation set")


def annotation_set(work: Work, faults: Faults, place: str, set_id: str, size: ImageSize | None) -> AnnotationSet | None:
    """Annotated images of the size that is wanted, where one is."""
    row = find(work, AnnotationSet, set_id)
    if row is None:
        faults.add(place, f"There is no annotation set {set_id}.")
    elif size is not None:
        size.check(faults, place, f"annotation set {set_id}", row.image_height, row.image_width)
    return row


def pool(work: Work, faults: Faults, pool_id: str, size: ImageSize | None) -> ImagePool | None:
    """A sealed pool."""
    pool = find(work, ImagePool, pool_id)
    if pool is None:
        faults.add("image_pool_id", f"There is no image pool {pool_id}.")
        return None
    if pool.state != "sealed":
        faults.add("image_pool_id", f"The image pool {pool_id} is still open; seal it first.")
    elif size is not None:
        size.check(faults, "image_pool_id", f"image pool {pool_id}", pool.image_height, pool.image_width)
    return pool


def dataset(work: Work, faults: Faults, dataset_id: str) -> Dataset | None:
    """A sealed dataset."""
    dataset = find(work, Dataset, dataset_id)
    if dataset is None:
        faults.add("dataset_id", f"There is no dataset {dataset_id}.")
    elif dataset.state != "sealed":
        faults.add("dataset_id", f"The dataset {dataset_id} is still {dataset.state}; wait until it is sealed.")
    return dataset


def size_of(generator: Generator) -> ImageSize | None:
    """None where images may have any size."""
    if generator.image_height is None or generator.image_width is None:
        return None
    return ImageSize(generator.image_height, generator.image_width, f"the generator {generator.name} makes")


def size_of_set(few: AnnotationSet) -> ImageSize:
    """Of its images."""
    return ImageSize(few.image_height, few.image_width, f"the annotation set {few.id} has")


def size_of_dataset(dataset: Dataset) -> ImageSize:
    """Of its images."""
    return ImageSize(dataset.image_height, dataset.image_width, f"the dataset {dataset.id} has")


def check_unseen(faults: Faults, set_id: str | None, learned_from: list[str]) -> None:
    """Nothing is measured on what it has learned from."""
    if set_id in learned_from:
        message = "The evaluation set is the annotation set itself; choose images that nothing has learned from."
        faults.add("evaluation_set_id", message)


def check_classes(faults: Faults, place: str, found: AnnotationSet, classes: list[dict[str, Any]], noun: str) -> None:
    """The same classes in the same order, or a fault at `place`."""
    ours, theirs = _class_list(classes), _class_list(found.classes)
    if ours != theirs:
        faults.add(place, f"Its classes are {_named(theirs)}, those of the {noun} are {_named(ours)}.")


def _class_list(classes: list[dict[str, Any]]) -> list[tuple[str, bool]]:
    return [(str(item["name"]), bool(item.get("thing", False))) for item in classes]


def _named(classes: list[tuple[str, bool]]) -> str:
    return ", ".join(f"{name} (things)" if thing else name for name, thing in classes)
