"""From an uploaded zip to stored tars: read and checked wholly first, then stored, so a refused upload leaves nothing.

The files are written to scratch by `prepare_...` (no database, no store), then taken in by `store_...` in one
transaction.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from service import annotation_sets, image_pools, object_keys
from service.errors import Invalid, StorageFull, fault
from service.formats.annotated_images import AnnotationUpload
from service.formats.annotation_upload import read_annotations
from service.formats.limits import UploadLimits
from service.formats.pool_upload import read_pool
from service.formats.shard import ShardSample, ShardWriter
from service.settings import Settings
from service.tables import AnnotationSet, PoolPart
from service.unit_of_work import Work

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
class PreparedAnnotationSet:
    """A valid set as a tar in scratch."""

    new: annotation_sets.NewAnnotationSet
    """Its row to be."""
    tar: Path
    """Its images and labels."""
    index: list[dict[str, Any]]
    """`{name, members: {extension: [offset, bytes]}}` of every image, for reading one without the tar."""


@dataclass(frozen=True)
class PreparedPart:
    """A valid part of a pool as a tar in scratch."""

    tar: Path
    """Its images."""
    num_images: int
    """How many."""
    num_duplicates: int
    """How many were left out because the same picture came before."""
    image_height: int
    """Height of all images."""
    image_width: int
    """Width of all images."""


def require_space(settings: Settings) -> None:
    """Refuse an upload that could fill the disk. Raises StorageFull."""
    scratch = settings.resolved_scratch_dir
    scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(scratch).free
    if free < settings.min_free_bytes:
        raise StorageFull(
            f"Only {free >> 20} MiB are free for uploads; {settings.min_free_bytes >> 20} MiB are kept free."
        )


def upload_limits(settings: Settings, max_images: int) -> UploadLimits:
    """The operator's limits on one zip."""
    return UploadLimits(
        max_entries=settings.max_archive_members,
        max_total_bytes=settings.max_inflated_bytes,
        max_ratio=int(settings.max_archive_ratio),
        max_image_pixels=settings.max_image_pixels,
        max_classes=settings.max_classes,
        max_images=max_images,
    )


def prepare_annotation_set(
    zip_path: Path, scratch: Path, request: AnnotationRequest, settings: Settings
) -> PreparedAnnotationSet:
    """Read and check a zip of annotated images. Raises Invalid with every problem and its place."""
    upload = _read(zip_path, request, upload_limits(settings, settings.max_annotation_images))
    tar = scratch / "annotations.tar"
    index = []
    with tar.open("wb") as file, ShardWriter(file) as writer:
        for number, image in enumerate(upload.images):
            sample = ShardSample(
                f"{number:05}", image.image_HWC, image.label_HW, image.instances_HW, meta={"name": image.name}
            )
            index.append({"name": image.name, "members": writer.add(sample).members})
    new = annotation_sets.NewAnnotationSet(
        name=request.name,
        kind="instance" if upload.kind == "instance" else "semantic",
        classes=[label_class.to_json() for label_class in upload.classes],
        num_images=len(index),
        image_height=upload.height,
        image_width=upload.width,
        statistics=upload.statistics,
    )
    return PreparedAnnotationSet(new, tar, index)


def _read(zip_path: Path, request: AnnotationRequest, limits: UploadLimits) -> AnnotationUpload:
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


def store_annotation_set(work: Work, prepared: PreparedAnnotationSet) -> AnnotationSet:
    """Take a prepared set in. Raises StorageFull."""
    with prepared.tar.open("rb") as file:
        row = annotation_sets.create(work, prepared.new, file)
    work.storage.put_stream(object_keys.annotation_index(row.key), [json.dumps(prepared.index).encode()])
    return row


def prepare_pool_part(zip_path: Path, scratch: Path, settings: Settings) -> PreparedPart:
    """Read and check a zip of images. Raises Invalid with every problem and its place."""
    upload = read_pool(zip_path, upload_limits(settings, settings.max_archive_members))
    tar = scratch / "images.tar"
    with tar.open("wb") as file, ShardWriter(file) as writer:
        for number, image in enumerate(upload):
            writer.add(ShardSample(f"{number:06}", image.image_HWC, meta={"name": image.name}))
        num_images = writer.num_images
    height, width = upload.size or (0, 0)
    return PreparedPart(tar, num_images, upload.num_duplicates, height, width)


def store_pool_part(work: Work, pool_id: str, prepared: PreparedPart) -> PoolPart:
    """Take a prepared part into an open pool. Raises NotFound, Conflict, Invalid, StorageFull."""
    with prepared.tar.open("rb") as file:
        return image_pools.add_part(
            work,
            pool_id,
            file,
            num_images=prepared.num_images,
            image_height=prepared.image_height,
            image_width=prepared.image_width,
        )
