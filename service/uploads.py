"""From an uploaded zip to stored tars: read and checked wholly first, then stored, so a refused upload leaves nothing.

The files are written to scratch by `prepare_...` (no database, no store), then taken in by `store_...` in one
transaction.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service import annotation_sets, image_pools, object_keys
from service.errors import StorageFull
from service.reader_process import Reader
from service.settings import Settings
from service.tables import AnnotationSet, PoolPart
from service.unit_of_work import Work
from service.upload_reading import AnnotationRequest, PoolTar


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
    found: PoolTar
    """How many of which size."""


def require_space(settings: Settings) -> None:
    """Refuse an upload that could fill the disk. Raises StorageFull."""
    scratch = settings.resolved_scratch_dir
    scratch.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(scratch).free
    if free < settings.min_free_bytes:
        raise StorageFull(
            f"Only {free >> 20} MiB are free for uploads; {settings.min_free_bytes >> 20} MiB are kept free."
        )


def prepare_annotation_set(
    zip_path: Path, scratch: Path, request: AnnotationRequest, settings: Settings
) -> PreparedAnnotationSet:
    """Read and check a zip of annotated images, in a child. Raises Invalid with every problem and its place, StorageFull."""
    tar = scratch / "annotations.tar"
    found = Reader(scratch, settings).annotated_tar(zip_path, tar, request)
    new = annotation_sets.NewAnnotationSet(
        name=request.name,
        kind=found.kind,
        classes=found.classes,
        num_images=len(found.index),
        image_height=found.image_height,
        image_width=found.image_width,
        statistics=found.statistics,
    )
    return PreparedAnnotationSet(new, tar, found.index)


def store_annotation_set(work: Work, prepared: PreparedAnnotationSet) -> AnnotationSet:
    """Take a prepared set in. Raises StorageFull."""
    with prepared.tar.open("rb") as file:
        row = annotation_sets.create(work, prepared.new, file)
    work.storage.put_stream(object_keys.annotation_index(row.key), [json.dumps(prepared.index).encode()])
    return row


def prepare_pool_part(zip_path: Path, scratch: Path, settings: Settings) -> PreparedPart:
    """Read and check a zip of images, in a child. Raises Invalid with every problem and its place, StorageFull."""
    tar = scratch / "images.tar"
    return PreparedPart(tar, Reader(scratch, settings).pool_tar(zip_path, tar))


def store_pool_part(work: Work, pool_id: str, prepared: PreparedPart) -> PoolPart:
    """Take a prepared part into an open pool. Raises NotFound, Conflict, Invalid, StorageFull."""
    with prepared.tar.open("rb") as file:
        return image_pools.add_part(
            work,
            pool_id,
            file,
            num_images=prepared.found.num_images,
            image_height=prepared.found.image_height,
            image_width=prepared.found.image_width,
        )
