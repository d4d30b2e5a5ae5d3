"""How much is stored, noun by noun, as the rows say; and the limits that it is held against.

Of the caller's workspace, whose quotas are settings, and of the caller's key, which may have limits of its own; an
unbound work counts everything. What a job made is its key's, whoever works on it later.

Counted from rows, never by listing the store. What was deleted or has expired counts no more, though its objects go a
little later; steps' files (heads, checkpoints, pictures) are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select, true

from service.clock import database_now
from service.errors import QuotaExceeded, StorageQuotaExceeded
from service.plan import GOING_ON
from service.tables import (
    AnnotationSet,
    ApiKey,
    Dataset,
    DatasetExport,
    DatasetShard,
    Generator,
    ImagePool,
    Job,
    PoolPart,
    Student,
)
from service.unit_of_work import Work


@dataclass(frozen=True)
class KeyUsage:
    """What is there now of what one key brought or asked for, and how much of it there may be."""

    id: str
    """The key."""
    name: str
    """What people call it."""
    num_bytes: dict[str, int]
    """Stored bytes by noun, and those of exports on their own."""
    num_active_jobs: int
    """Its jobs that go on."""
    max_bytes: int | None
    """Most stored bytes; None: only the workspace's limit holds."""
    max_active_jobs: int | None
    """Most of its jobs that go on at a time; None: only the workspace's limit holds."""

    @property
    def total_bytes(self) -> int:
        """All that is stored of it."""
        return sum(self.num_bytes.values())


@dataclass(frozen=True)
class Usage:
    """What is there now, and how much there may be."""

    num_bytes: dict[str, int]
    """Stored bytes by noun, and those of exports on their own."""
    num_active_jobs: int
    """Jobs that go on."""
    max_bytes: int | None
    """Most stored bytes; None: as many as fit."""
    max_active_jobs: int
    """Most jobs that go on at a time."""
    max_job_images: int
    """Most images that one job synthesizes."""
    key: KeyUsage | None
    """The part of the key that asks; None where nobody's request is served."""

    @property
    def total_bytes(self) -> int:
        """All that is stored."""
        return sum(self.num_bytes.values())


@dataclass(frozen=True)
class _Limit:
    """One of the limits that hold for the caller."""

    whose: str
    api_key_id: str | None
    most: int


def read(work: Work) -> Usage:
    """What is stored and what goes on."""
    settings, key = work.settings, _find_key(work, work.session.api_key_id)
    return Usage(
        _num_bytes(work),
        _num_active(work),
        settings.max_stored_bytes,
        settings.max_active_jobs,
        settings.max_job_images,
        None if key is None else of_key(work, key),
    )


def of_key(work: Work, key: ApiKey) -> KeyUsage:
    """What is stored and what goes on of what this key brought or asked for."""
    return KeyUsage(
        key.id,
        key.name,
        _num_bytes(work, key.id),
        _num_active(work, key.id),
        key.max_stored_bytes,
        key.max_active_jobs,
    )


def require_room(work: Work, num_bytes: int = 0) -> None:
    """Refuse what would store more than the workspace or the caller's key may. Raises StorageQuotaExceeded."""
    for limit in _limits(work, work.session.api_key_id, "max_stored_bytes"):
        stored = sum(_num_bytes(work, limit.api_key_id).values())
        if stored + num_bytes > limit.most or stored >= limit.most:
            raise StorageQuotaExceeded(
                f"{limit.whose} has {stored} bytes stored, {max(num_bytes, 0)} more would come, and {limit.most} are "
                "allowed; delete what is no longer needed, then try again."
            )


def require_free_slot(work: Work, api_key_id: str | None) -> None:
    """Refuse another job of this key beside those that go on. Raises QuotaExceeded."""
    for limit in _limits(work, api_key_id, "max_active_jobs"):
        active = _num_active(work, limit.api_key_id)
        if active >= limit.most:
            jobs = "1 job" if active == 1 else f"{active} jobs"
            raise QuotaExceeded(
                f"{limit.whose} has {jobs} going on, and {limit.most} may at a time; try again when one has ended."
            )


def _limits(work: Work, api_key_id: str | None, name: str) -> Iterator[_Limit]:
    """The workspace's limit of this name and the key's own, as they stand now."""
    if (most := getattr(work.settings, name)) is not None:
        yield _Limit("This workspace", None, most)
    key = _find_key(work, api_key_id)
    if key is not None and (most := getattr(key, name)) is not None:
        yield _Limit(f"The key {key.name}", key.id, most)


def _find_key(work: Work, api_key_id: str | None) -> ApiKey | None:
    return None if api_key_id is None else work.session.get(ApiKey, api_key_id)


def _num_active(work: Work, api_key_id: str | None = None) -> int:
    query = select(func.count()).select_from(Job).where(Job.state.in_(GOING_ON))
    if api_key_id is not None:
        query = query.where(Job.api_key_id == api_key_id)
    return work.session.execute(query).scalar_one()


def _num_bytes(work: Work, api_key_id: str | None = None) -> dict[str, int]:
    """Stored bytes by noun, of one key where it is named."""
    queries = _sums(work.session.workspace_id)
    if api_key_id is not None:
        queries = {noun: queries[noun].where(part) for noun, part in _parts_of(api_key_id).items()}
    return {noun: int(work.session.execute(query).scalar_one() or 0) for noun, query in queries.items()}


def _sums(workspace_id: str | None) -> dict[str, Select[Any]]:
    parts = select(func.sum(PoolPart.num_bytes)).join(ImagePool, ImagePool.id == PoolPart.pool_id)
    shards = select(func.sum(DatasetShard.num_bytes)).join(Dataset, Dataset.id == DatasetShard.dataset_id)
    exports = select(func.sum(DatasetExport.num_bytes)).join(Dataset, Dataset.id == DatasetExport.dataset_id)
    fresh = or_(DatasetExport.expires_at.is_(None), DatasetExport.expires_at > database_now())
    present = Dataset.deleted_at.is_(None)
    # What the operator offers is nobody's burden.
    own = true() if workspace_id is None else Generator.workspace_id == workspace_id
    return {
        "image_pools": parts.where(ImagePool.deleted_at.is_(None)),
        "annotation_sets": select(func.sum(AnnotationSet.num_bytes)).where(AnnotationSet.deleted_at.is_(None)),
        "generators": select(func.sum(Generator.num_bytes)).where(Generator.deleted_at.is_(None), own),
        "datasets": shards.where(present),
        "exports": exports.where(present, DatasetExport.key.is_not(None), fresh),
        "students": select(func.sum(Student.num_bytes)).where(Student.deleted_at.is_(None)),
    }


def _parts_of(api_key_id: str) -> dict[str, ColumnElement[bool]]:
    """What one key brought, and what the jobs made that it asked for, of each of the sums."""
    asked_for = select(Job.id).where(Job.api_key_id == api_key_id)
    return {
        "image_pools": PoolPart.api_key_id == api_key_id,
        "annotation_sets": AnnotationSet.api_key_id == api_key_id,
        "generators": Generator.job_id.in_(asked_for),
        "datasets": Dataset.job_id.in_(asked_for),
        "exports": Dataset.job_id.in_(asked_for),
        "students": Student.job_id.in_(asked_for),
    }
