"""Takes away what deleted things and expired exports have left, their objects and the rows below them, and old audit entries.

For every reader a thing is gone when its row says so; this follows within a minute or so. Objects go before the rows
that know their keys, one small transaction at a time, so that a purge that is killed anywhere is taken up again and
nothing is forgotten. Whoever was reading an object at that moment reads on from a folder; a store by S3 may cut the
stream, which a client sees from its length. One process of the cluster purges at a time.

A job that was deleted keeps its steps for as long as anything it made is there: a dataset's head and a report's
pictures are files of steps.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Select, delete, select, update

from service import duties, object_keys
from service.bootstrap import Factory
from service.clock import database_now, read_clock, utc_now
from service.errors import LeaseLost, ServiceError
from service.ids import first_id
from service.job_inputs import PRODUCTS
from service.tables import (
    AnnotationSet,
    AuditEntry,
    Dataset,
    DatasetExport,
    DatasetImage,
    DatasetShard,
    Event,
    Generator,
    ImagePool,
    Job,
    PoolPart,
    Report,
    Step,
    Student,
)

log = structlog.get_logger(__name__)

DUTY = "purge"
BATCH = 500
DELETABLE: tuple[type[Any], ...] = (AnnotationSet, ImagePool, Report, Student, Generator, Dataset, Job)
Stop = Callable[[], bool]


def purge_in_turn(factory: Factory, *, stop: Stop = lambda: False) -> int:
    """Purge if there is anything to purge and nobody else is at it; returns how many things. Raises StorageError."""
    if not _has_work(factory):
        return 0
    with factory.work() as work:
        token = duties.take(work, DUTY, owner=f"{socket.gethostname()}:{os.getpid()}")
    if token is None:
        return 0

    def stopped() -> bool:
        """Asked between two objects or batches: renews the lease as well."""
        with factory.work() as work:
            duties.renew(work, DUTY, token)
        return stop()

    try:
        return purge(factory, stop=stopped)
    except LeaseLost:
        return 0
    finally:
        with suppress(ServiceError), factory.work() as work:
            duties.finish(work, DUTY, token)


def purge(factory: Factory, *, stop: Stop = lambda: False) -> int:
    """Go through all that was deleted or has expired. Raises StorageError."""
    return _Purge(factory, stop).run()


def _has_work(factory: Factory) -> bool:
    with factory.read() as work:
        waiting: list[Select[Any]] = [_expired(), *(_tombstones(table) for table in DELETABLE)]
        waiting += [select(AuditEntry.id).where(old) for old in _old_entries(factory)]
        return any(work.session.execute(query.limit(1)).first() is not None for query in waiting)


def _tombstones(table: type[Any]) -> Select[Any]:
    return select(table).where(table.deleted_at.is_not(None), table.purged_at.is_(None)).order_by(table.id)


def _expired() -> Select[Any]:
    return select(DatasetExport).where(DatasetExport.key.is_not(None), DatasetExport.expires_at < database_now())


def _old_entries(factory: Factory) -> list[ColumnElement[bool]]:
    """Which entries of the audit log are too old; empty where all are kept."""
    kept = factory.settings.audit_ttl_seconds
    return [] if kept is None else [AuditEntry.id < first_id("aud", utc_now() - timedelta(seconds=kept))]


class _Purge:
    """One way through all that is to go."""

    def __init__(self, factory: Factory, stop: Stop) -> None:
        self._factory, self._storage, self._stop = factory, factory.storage, stop
        self._below: dict[type[Any], Callable[[Any], bool]] = {
            AnnotationSet: self._annotation_set,
            ImagePool: self._pool,
            Report: self._report,
            Student: self._student,
            Generator: self._generator,
            Dataset: self._dataset,
            Job: self._job,
        }

    def run(self) -> int:
        """Returns how many things are gone now."""
        done = sum(self._each(_expired(), self._export))
        for table in DELETABLE:
            done += sum(self._each(_tombstones(table), self._tombstone))
        for old in _old_entries(self._factory):
            self._rows(AuditEntry, AuditEntry.id, old)
        return done

    def _each(self, query: Select[Any], purge_one: Callable[[Any], bool]) -> Iterable[bool]:
        with self._factory.read() as work:
            rows = list(work.session.scalars(query.limit(BATCH)))
        for row in rows:
            if self._stop():
                return
            yield purge_one(row)

    def _tombstone(self, row: Any) -> bool:
        if not self._below[type(row)](row) or not self._steps(row):
            return False  # asked to stop on the way; it goes on next time
        with self._factory.work() as work:
            change = update(type(row)).where(type(row).id == row.id).values(purged_at=read_clock(work.session))
            work.session.execute(change)
        log.info("purged what was deleted", id=row.id)
        return True

    def _export(self, row: DatasetExport) -> bool:
        assert row.key is not None
        self._storage.delete(row.key)
        # Made again meanwhile, it has another key.
        same = (DatasetExport.dataset_id == row.dataset_id, DatasetExport.key == row.key)
        with self._factory.work() as work:
            work.session.execute(update(DatasetExport).where(*same).values(key=None))
        log.info("removed an expired export", dataset=row.dataset_id, format=row.format)
        return True

    def _annotation_set(self, row: AnnotationSet) -> bool:
        return self._objects([row.key, object_keys.annotation_index(row.key)])

    def _pool(self, row: ImagePool) -> bool:
        with self._factory.read() as work:
            parts = list(work.session.scalars(select(PoolPart).where(PoolPart.pool_id == row.id)))
        if not self._objects(part.key for part in parts):
            return False
        with self._factory.work() as work:
            work.session.execute(delete(PoolPart).where(PoolPart.pool_id == row.id))
        return True

    def _report(self, row: Report) -> bool:
        with self._factory.work() as work:
            work.session.execute(update(Report).where(Report.id == row.id).values(content={}))
        return True

    def _student(self, row: Student) -> bool:
        keys = [str(file["key"]) for file in row.files]
        if not self._objects([*keys, *([row.archive_key] if row.archive_key else [])]):
            return False
        with self._factory.work() as work:
            work.session.execute(update(Student).where(Student.id == row.id).values(files=[], archive_key=None))
        return True

    def _generator(self, row: Generator) -> bool:
        if row.key_prefix is None:
            return True
        return self._objects([object_keys.generator_archive(row.key_prefix), *self._storage.list(row.key_prefix)])

    def _dataset(self, row: Dataset) -> bool:
        """Shard by shard, however many images there are."""
        with self._factory.read() as work:
            shards = list(work.session.scalars(select(DatasetShard).where(DatasetShard.dataset_id == row.id)))
            exports = select(DatasetExport.key).where(DatasetExport.dataset_id == row.id)
            keys = [key for key in (row.manifest_key, *work.session.scalars(exports)) if key is not None]
        if not self._objects(keys):
            return False
        for shard in shards:
            if self._stop() or not self._objects([shard.key]):
                return False
            at_shard = (DatasetImage.dataset_id == row.id, DatasetImage.shard_index == shard.index)
            same = (DatasetShard.dataset_id == row.id, DatasetShard.index == shard.index)
            with self._factory.work() as work:
                work.session.execute(delete(DatasetImage).where(*at_shard))
                work.session.execute(delete(DatasetShard).where(*same))
        with self._factory.work() as work:
            work.session.execute(delete(DatasetExport).where(DatasetExport.dataset_id == row.id))
            work.session.execute(update(Dataset).where(Dataset.id == row.id).values(manifest_key=None))
        return True

    def _job(self, row: Job) -> bool:
        """Its log; a report names its pictures itself."""
        return self._rows(Event, Event.id, Event.job_id == row.id)

    def _steps(self, row: Any) -> bool:
        """The steps of a deleted job, once nothing that it made is left; `row` is the last of it."""
        job_id = row.id if isinstance(row, Job) else getattr(row, "job_id", None)
        if job_id is None:
            return True
        with self._factory.read() as work:
            job = work.session.get_one(Job, job_id)
            left = [
                work.session.scalars(
                    select(table.id).where(table.job_id == job_id, table.id != row.id, table.purged_at.is_(None))
                ).first()
                for table in PRODUCTS
            ]
            ids = list(work.session.scalars(select(Step.id).where(Step.job_id == job_id)))
        has_log = job.deleted_at is None or (job.purged_at is None and not isinstance(row, Job))
        if has_log or any(left):
            return True
        for step_id in ids:
            if self._stop() or not self._objects(list(self._storage.list(object_keys.step_prefix(step_id)))):
                return False
        return self._rows(Step, Step.id, Step.job_id == job_id)

    def _rows(self, table: type[Any], id_column: Any, condition: Any) -> bool:
        """Remove rows a batch at a time: none waits long for this."""
        while not self._stop():
            with self._factory.work() as work:
                ids = list(work.session.scalars(select(id_column).where(condition).limit(BATCH)))
                work.session.execute(delete(table).where(id_column.in_(ids)))
            if len(ids) < BATCH:
                return True
        return False

    def _objects(self, keys: Iterable[str]) -> bool:
        """Remove objects; False when asked to stop before the last."""
        for number, key in enumerate(keys):
            if number % BATCH == BATCH - 1 and self._stop():
                return False
            self._storage.delete(key)
        return True
