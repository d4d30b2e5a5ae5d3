"""Annotation sets: a few images with labels, stored whole, never changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from sqlalchemy import select

from service import deletion, object_keys, usage
from service.ids import new_id
from service.lookup import must_find
from service.paging import Page, newest_first
from service.storage import digest_file
from service.tables import AnnotationSet
from service.unit_of_work import Work


@dataclass(frozen=True)
class NewAnnotationSet:
    """A validated set, ready to be stored."""

    name: str
    """What people call it."""
    kind: Literal["semantic", "instance"]
    """Whether any class has instances."""
    classes: list[dict[str, Any]]
    """`{name, thing, color, background}` in the order of the label map's values."""
    num_images: int
    """How many images."""
    image_height: int
    """Height of all images."""
    image_width: int
    """Width of all images."""
    statistics: dict[str, Any]
    """Pixels and images per class, and what else the reader counted."""


def create(work: Work, new: NewAnnotationSet, file: BinaryIO) -> AnnotationSet:
    """Store the set's WebDataset tar (a seekable file) and its row. Raises StorageFull, StorageQuotaExceeded."""
    content = digest_file(file)
    usage.require_room(work, content.num_bytes)
    set_id = new_id("ann")
    key = object_keys.annotation_set(set_id, content.sha256)
    work.storage.put_stream(key, file)
    row = AnnotationSet(
        id=set_id,
        name=new.name,
        kind=new.kind,
        classes=new.classes,
        num_images=new.num_images,
        image_height=new.image_height,
        image_width=new.image_width,
        key=key,
        sha256=content.sha256,
        num_bytes=content.num_bytes,
        statistics=new.statistics,
    )
    work.session.add(row)
    work.session.flush()
    return row


def get(work: Work, set_id: str, *, deleted: bool = False) -> AnnotationSet:
    """One annotation set; `deleted` finds the row of a deleted one too. Raises NotFound, Gone."""
    return must_find(work, AnnotationSet, set_id, "annotation set", deleted=deleted)


def list_page(work: Work, *, after: str | None = None, limit: int = 50) -> Page[AnnotationSet]:
    """Annotation sets, newest first."""
    query = select(AnnotationSet).where(AnnotationSet.deleted_at.is_(None))
    return newest_first(work, query, AnnotationSet.id, after=after, limit=limit)


def read(work: Work, row: AnnotationSet) -> Iterator[bytes]:
    """The set's tar, chunk by chunk."""
    return work.storage.get_stream(row.key)


def delete(work: Work, set_id: str) -> None:
    """Delete a set. Raises NotFound, Gone, Conflict while a job takes it in."""
    deletion.delete(work, get(work, set_id))
