"""One image of a set or dataset as a picture for people, read by byte ranges, its labels laid over it."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from service import datasets, object_keys
from service.errors import Invalid, NotFound, fault
from service.formats.annotated_images import LabelClass
from service.formats.overlay import overlay
from service.formats.png import encode_image_png
from service.formats.shard import BLOCK, ShardSample, sample_from_members
from service.tables import AnnotationSet, Dataset, DatasetImage
from service.unit_of_work import Work

MAX_PIXELS = 16_000_000


@dataclass(frozen=True)
class View:
    """How an image is to be shown."""

    opacity: float = 0.0
    """Of the labels: 0 shows the image alone, 1 the labels alone."""
    scale: int = 1
    """Enlarged by this factor, without smoothing."""


def tag(sha256: str, index: int, view: View) -> str:
    """What the picture's bytes depend on, as an entity tag."""
    return hashlib.sha256(f"{sha256}:{index}:{view.opacity!r}:{view.scale}".encode()).hexdigest()[:32]


def annotation_image(work: Work, row: AnnotationSet, index: int, view: View) -> bytes:
    """A PNG of one image of an annotation set. Raises NotFound, Invalid when it would be too large."""
    _check_size(row.image_height, row.image_width, view)
    if index >= row.num_images:
        raise NotFound(f"The annotation set {row.id} has {row.num_images} images; there is no image {index}.")
    entries = json.loads(b"".join(work.storage.get_stream(object_keys.annotation_index(row.key))))
    spans: Mapping[str, list[int]] = entries[index]["members"]
    wanted = [name for name in ("png", "label.png", "instances.png") if name in spans]
    members = {name: work.storage.get_range(row.key, spans[name][0], spans[name][1]) for name in wanted}
    return _render(sample_from_members(f"{index:05}", members), row.classes, view)


def dataset_image(work: Work, row: Dataset, image: DatasetImage, view: View) -> bytes:
    """A PNG of one image of a dataset. Raises NotFound, Invalid when it would be too large."""
    _check_size(row.image_height, row.image_width, view)
    if view.opacity == 0 and view.scale == 1:
        return datasets.read_image(work, image)
    members = {"png": datasets.read_image(work, image), "label.png": datasets.read_label(work, image)}
    if view.opacity > 0 and any(item.get("thing") for item in row.classes):
        members |= _instances(work, image)
    return _render(sample_from_members(image.name, members), row.classes, view)


def _check_size(height: int, width: int, view: View) -> None:
    if height * width * view.scale**2 > MAX_PIXELS:
        message = f"makes more than {MAX_PIXELS} pixels of {height}x{width}"
        raise Invalid("The picture would be too large.", [fault("query.scale", message)])


def _instances(work: Work, image: DatasetImage) -> dict[str, bytes]:
    """The member after the label map, when it is the instance map: its place needs no row."""
    key = datasets.get_shard(work, image.dataset_id, image.shard_index).key
    end = image.label_offset + image.label_bytes
    header_offset = end + -end % BLOCK
    info = tarfile.TarInfo.frombuf(work.storage.get_range(key, header_offset, BLOCK), "utf-8", "strict")
    if not info.name.endswith(".instances.png"):
        return {}
    return {"instances.png": work.storage.get_range(key, header_offset + BLOCK, info.size)}


def _render(sample: ShardSample, classes: list[dict[str, Any]], view: View) -> bytes:
    label_HW = sample.label_HW
    if label_HW is None:
        label_HW = np.zeros(sample.image_HWC.shape[:2], np.uint8)
    shown = overlay(
        sample.image_HWC,
        label_HW,
        [LabelClass.from_json(item) for item in classes],
        opacity=view.opacity,
        instances_HW=sample.instances_HW,
        scale=view.scale,
    )
    return encode_image_png(shown)
