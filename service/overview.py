"""The factory at a glance: how much there is of everything, what runs, and the room that is left."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from service.settings import Settings
from service.tables import AnnotationSet, Dataset, DatasetShard, Generator, Job, Report, Step, Student
from service.unit_of_work import Work

NOUNS: dict[str, Any] = {
    "generators": Generator,
    "annotation_sets": AnnotationSet,
    "jobs": Job,
    "datasets": Dataset,
    "students": Student,
    "reports": Report,
}


@dataclass(frozen=True)
class DiskUse:
    """The file system that holds the data folder."""

    total: int
    """Bytes in all."""
    free: int
    """Bytes that are left."""
    reserve: int
    """With less than this free, uploads and steps are refused."""

    @property
    def used(self) -> int:
        """Bytes taken, by whomever."""
        return self.total - self.free

    @property
    def low(self) -> bool:
        """Whether the reserve is touched."""
        return self.free < self.reserve


def totals(work: Work) -> dict[str, int]:
    """How many there are of each noun; `images` are those in recorded shards."""
    found = {
        noun: work.session.execute(select(func.count()).where(table.deleted_at.is_(None))).scalar_one()
        for noun, table in NOUNS.items()
    }
    present = select(func.sum(DatasetShard.num_images)).join(Dataset).where(Dataset.deleted_at.is_(None))
    images = work.session.execute(present).scalar_one()
    return {**found, "images": int(images or 0)}


def running_jobs(work: Work, *, limit: int = 8) -> list[tuple[Job, list[Step]]]:
    """Jobs with a running step, newest first, each with the steps of the kinds that run."""
    with_steps = select(Step.job_id).where(Step.state == "running")
    jobs = work.session.scalars(select(Job).where(Job.id.in_(with_steps)).order_by(Job.id.desc()).limit(limit))
    return [(job, _steps_of_running_kinds(work, job)) for job in jobs]


def _steps_of_running_kinds(work: Work, job: Job) -> list[Step]:
    kinds = select(Step.kind).where(Step.job_id == job.id, Step.state == "running")
    query = select(Step).where(Step.job_id == job.id, Step.kind.in_(kinds)).order_by(Step.created_at, Step.index)
    return list(work.session.scalars(query))


def disk(settings: Settings) -> DiskUse | None:
    """Room on the data folder's file system; None before the folder exists."""
    try:
        usage = shutil.disk_usage(settings.data_dir)
    except OSError:
        return None
    return DiskUse(usage.total, usage.free, settings.min_free_bytes)
