"""The JSON of a COCO upload, checked member by member. Masks are checked when they are painted: see `coco_reader`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from service.formats import archive_entries
from service.formats.class_lists import check_names, name_fault, read_color, read_flag
from service.formats.limits import UploadLimits
from service.formats.problems import FileProblem, ProblemList
from service.formats.strict_documents import is_finite, is_whole

MAX_ID = 2**63 - 1


@dataclass(frozen=True)
class CocoCategory:
    id: int
    name: str
    thing: bool
    color: str
    place: str


@dataclass(frozen=True)
class CocoAnnotation:
    category: int
    """Position in `CocoDocument.categories`."""
    crowd: bool
    segmentation: object
    """Unchecked."""
    place: str


@dataclass(frozen=True)
class CocoImage:
    file_name: str
    height: int
    width: int
    ignore: object
    """Unchecked segmentation of the pixels nobody decided about, or None: a member this project writes itself."""
    place: str
    annotations: list[CocoAnnotation] = field(default_factory=list)


@dataclass(frozen=True)
class CocoDocument:
    categories: tuple[CocoCategory, ...]
    """In order of id: the stable order of the classes."""
    images: tuple[CocoImage, ...]


def read_document(value: object, file: str, limits: UploadLimits, problems: ProblemList) -> CocoDocument:
    """Adds every fault of the document's members. Raises `FileProblem` when it is no COCO document at all."""
    if not isinstance(value, dict):
        raise FileProblem("is not a JSON object")
    missing = [key for key in ("images", "annotations", "categories") if not isinstance(value.get(key), list)]
    if missing:
        raise FileProblem(
            f"has no list {' and no list '.join(repr(key) for key in missing)}; a COCO file has all three"
        )
    if len(value["images"]) > limits.max_images or len(value["categories"]) > limits.max_classes:
        raise FileProblem(f"has more than {limits.max_images:,} images or {limits.max_classes} categories")
    categories = _categories(value["categories"], file, limits, problems)
    images = _images(value["images"], file, limits, problems)
    _annotations(value["annotations"], file, categories, images, problems)
    ordered = sorted(categories.values(), key=lambda c: c.id)
    return CocoDocument(tuple(ordered), tuple(images.values()))


def _records(values: list[Any], place: str, problems: ProblemList) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(place, id, record) of the records that are objects with an id of their own."""
    seen: dict[int, int] = {}
    for index, record in enumerate(values):
        here = f"{place}[{index}]"
        if not isinstance(record, dict):
            problems.add(here, "is not an object")
        elif not is_whole(record.get("id")) or not 0 <= record["id"] <= MAX_ID:
            problems.add(f"{here}.id", "is not a whole number from 0 to 2^63 - 1")
        elif record["id"] in seen:
            problems.add(f"{here}.id", f"is {record['id']}, the id of [{seen[record['id']]}] too")
        else:
            seen[record["id"]] = index
            yield here, record["id"], record


def _categories(values: list[Any], file: str, limits: UploadLimits, problems: ProblemList) -> dict[int, CocoCategory]:
    found = {}
    for place, number, record in _records(values, f"{file}: categories", problems):
        if fault := name_fault(record.get("name"), limits):
            problems.add(place, fault)
            continue
        if "isthing" in record:
            thing = read_flag(record, "isthing")
            if thing is None:
                problems.add(f"{place}.isthing", "is neither 0 nor 1")
        else:
            thing = record.get("supercategory") == "thing"
        color = read_color(record.get("color")) or ""
        found[number] = CocoCategory(number, record["name"], bool(thing), color, place)
    check_names([c.name for c in found.values()], [f"{c.place}.name" for c in found.values()], problems)
    return found


def _images(values: list[Any], file: str, limits: UploadLimits, problems: ProblemList) -> dict[int, CocoImage]:
    found = {}
    for place, number, record in _records(values, f"{file}: images", problems):
        name = record.get("file_name")
        fault = archive_entries.name_fault(name) if isinstance(name, str) else "is not a text"
        if fault:
            problems.add(f"{place}.file_name", fault)
        height, width = record.get("height"), record.get("width")
        if not (type(height) is int and type(width) is int and min(height, width) >= 1):
            problems.add(place, "has no height and width that are whole numbers from 1")
        elif height * width > limits.max_image_pixels:
            problems.add(place, f"has a size of more than {limits.max_image_pixels:,} pixels")
        elif not fault:
            found[number] = CocoImage(str(name), height, width, record.get("ignore"), place)
    return found


def _annotations(
    values: list[Any],
    file: str,
    categories: dict[int, CocoCategory],
    images: dict[int, CocoImage],
    problems: ProblemList,
) -> None:
    """Hangs each sound annotation on its image, in file order."""
    positions = {number: index for index, number in enumerate(sorted(categories))}
    for place, _, record in _records(values, f"{file}: annotations", problems):
        image = _referred(images, record.get("image_id"))
        position = _referred(positions, record.get("category_id"))
        crowd = read_flag(record, "iscrowd")
        if image is None:
            problems.add(f"{place}.image_id", f"{_shown(record.get('image_id'))} is the id of no image")
        if position is None:
            problems.add(f"{place}.category_id", f"{_shown(record.get('category_id'))} is the id of no category")
        if crowd is None:
            problems.add(f"{place}.iscrowd", "is neither 0 nor 1")
        if "bbox" in record and not _is_box(record["bbox"]):
            problems.add(f"{place}.bbox", "is not [x, y, width, height] with finite numbers and no negative size")
        if image is not None and position is not None:
            image.annotations.append(CocoAnnotation(position, bool(crowd), record.get("segmentation"), place))


def _referred(table: dict[int, Any], number: object) -> Any:
    return table.get(number) if type(number) is int else None


def _shown(value: object) -> str:
    return str(value)[:40] if type(value) is int and abs(value) <= MAX_ID else repr(type(value).__name__)


def _is_box(value: object) -> bool:
    """Boxes are checked for form and then not used: the mask is the truth."""
    return isinstance(value, list) and len(value) == 4 and all(is_finite(v) for v in value) and min(value[2:]) >= 0
