"""How much is stored, noun by noun, as the rows say; and the limits that it is held against.

Of the caller's workspace, whose quotas these are; an unbound work counts them all.

Counted from rows, never by listing the store. What was deleted or has expired counts no more, though its objects go a
little later; steps' files (heads, checkpoints, pictures) are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, or_, select, true

from service.clock import database_now
from service.errors import QuotaExceeded, StorageQuotaExceeded
from service.plan import ENDED
from service.tables import (
    AnnotationSet,
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

    @property
    def total_bytes(self) -> int:
        """All that is stored."""
        return sum(self.num_bytes.values())


def read(work: Work) -> Usage:
    """What is stored and what goes on."""
    found = {
        noun: int(work.session.execute(query).scalar_one() or 0)
        for noun, query in _sums(work.session.workspace_id).items()
    }
    settings = work.settings
    return Usage(found, _num_active(work), settings.max_stored_bytes, settings.max_active_jobs, settings.max_job_images)


def require_room(work: Work, num_bytes: int = 0) -> None:
    """Refuse what would store more than is allowed. Raises StorageQuotaExceeded."""
    limit = work.settings.max_stored_bytes
    if limit is None:
        return
    stored = read(work).total_bytes
    if stored + num_bytes > limit or stored >= limit:
        raise StorageQuotaExceeded(
            f"{stored} bytes are stored, {max(num_bytes, 0)} more would come, and {limit} are allowed; "
            "delete what is no longer needed, then try again."
        )


def require_free_slot(work: Work) -> None:
    """Refuse another job beside those that go on. Raises QuotaExceeded."""
    active, limit = _num_active(work), work.settings.max_active_jobs
    if active >= limit:
        raise QuotaExceeded(f"{active} jobs go on, and {limit} may at a time; try again when one has ended.")


def _num_active(work: Work) -> int:
    return work.session.execute(select(func.count()).select_from(Job).where(Job.state.not_in(ENDED))).scalar_one()


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
