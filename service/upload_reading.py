"""A zip from a stranger on disk -> a tar of checked images on disk. Only `reader_process` runs this, in a child.

Imports no database, no store and no settings, so that the child starts fast and knows no secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from service.errors import Invalid, fault
from service.formats.annotated_images import AnnotationUpload
from service.formats.annotation_upload import read_annotations
from service.formats.limits import UploadLimits
from service.formats.pool_upload import read_pool
from service.formats.shard import ShardSample, ShardWriter

Kind = Literal["semantic", "instance"]


@dataclass(frozen=True)
class AnnotationRequest:
    """How an uploaded zip of annotated images is to be read."""

    name: str
    """What people call the set."""
    format: Literal["auto", "coco", "masks"] = "auto"
    """What the zip holds."""
    kind: Kind | None = None
    """Whether instances count; empty: as the zip says."""
    classes: Sequence[str] | None = None
    """Class names in the order of mask values; empty: as the zip says."""
    things: Sequence[str] | None = None
    """Classes with instances; empty: as the zip says."""
    first: int | None = None
    """Only the first N images of the zip."""


@dataclass(frozen=True)
class AnnotatedTar:
    """What is in the tar of a set of annotated images."""

    kind: Kind
    """Whether any class has instances."""
    classes: list[dict[str, Any]]
    """`{name, thing, color, background}` in the order of the label map's values."""
    image_height: int
    """Height of all images."""
    image_width: int
    """Width of all images."""
    statistics: dict[str, Any]
    """Pixels and images per class, and what else the reader counted."""
    index: list[dict[str, Any]]
    """`{name, members: {extension: [offset, bytes]}}` of every image."""


@dataclass(frozen=True)
class PoolTar:
    """What is in the tar of a part of a pool."""

    num_images: int
    """How many."""
    num_duplicates: int
    """How many were left out because the same picture came before."""
    image_height: int
    """Height of all images."""
    image_width: int
    """Width of all images."""


def write_annotated_tar(zip_path: Path, tar: Path, request: AnnotationRequest, limits: UploadLimits) -> AnnotatedTar:
    """Read and check a zip of annotated images. Raises Invalid with every problem and its place."""
    upload = _read_annotations(zip_path, request, limits)
    index = []
    with tar.open("wb") as file, ShardWriter(file) as writer:
        for number, image in enumerate(upload.images):
            sample = ShardSample(
                f"{number:05}", image.image_HWC, image.label_HW, image.instances_HW, meta={"name": image.name}
            )
            index.append({"name": image.name, "members": writer.add(sample).members})
    return AnnotatedTar(
        kind="instance" if upload.kind == "instance" else "semantic",
        classes=[label_class.to_json() for label_class in upload.classes],
        image_height=upload.height,
        image_width=upload.width,
        statistics=upload.statistics,
        index=index,
    )


def _read_annotations(zip_path: Path, request: AnnotationRequest, limits: UploadLimits) -> AnnotationUpload:
    if request.kind == "semantic" and request.things:
        message = "names classes with instances, but kind is semantic"
        raise Invalid("A semantic set has no things.", [fault("things", message)])

    def read(things: Sequence[str] | None) -> AnnotationUpload:
        return read_annotations(
            zip_path,
            limits=limits,
            classes=request.classes,
            things=things,
            format=request.format,
            first=request.first,
        )

    upload = read([] if request.kind == "semantic" else request.things)
    if request.kind == "instance" and upload.kind != "instance":
        # Nothing says which: then every class but the background is countable.
        upload = read([label_class.name for label_class in upload.classes if not label_class.background])
    return upload


def write_pool_tar(zip_path: Path, tar: Path, limits: UploadLimits) -> PoolTar:
    """Read and check a zip of images. Raises Invalid with every problem and its place."""
    upload = read_pool(zip_path, limits)
    with tar.open("wb") as file, ShardWriter(file) as writer:
        for number, image in enumerate(upload):
            writer.add(ShardSample(f"{number:06}", image.image_HWC, meta={"name": image.name}))
        num_images = writer.num_images
    height, width = upload.size or (0, 0)
    return PoolTar(num_images, upload.num_duplicates, height, width)
