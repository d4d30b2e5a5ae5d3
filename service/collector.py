"""Removes orphans: objects that no row names, left by killed workers, failed uploads and superseded checkpoints.

The store is listed batch by batch and the rows are asked about one batch at a time, so neither a million objects nor a
million rows fill the memory. An object goes when no row names it *and* it is `orphan_seconds` old on the store's own
clock, taken back to the database's where the store's is ahead; this machine's clock is not asked.

Why that loses nothing, whoever writes meanwhile:

- Everywhere an object is stored first and its row committed after. Between the two lie seconds, at most an upload or
  two leases; the object is younger than that, and `orphan_seconds` is longer. Files of the attempt that holds a step
  stay whatever their age.
- A row never begins to name an object that is old and unnamed, because keys hold a fresh id or the attempt's token,
  and a worker that lost its step commits nothing. The exceptions:
    - a dataset's manifest has one key for all attempts, so it stays as long as the dataset has a row;
    - a pool's part is named by its content, so the same upload tried again writes an orphan's key again. `add_part`
      stores and records under the pool's lock; such an orphan is deleted under the same lock, after a second look at
      rows and age;
    - a checkpoint's manifest carries objects of earlier attempts on. What a manifest does not name, none of its
      successors does.
- A retried job goes on from its checkpoints. Those of steps that ended `orphan_seconds` ago are first forgotten by
  their rows, and only then are their objects orphans: a retry finds a whole checkpoint or none.
- Right before it is deleted every object is looked at again; one that was written since it was listed stays.

What a killed writer left of an object in a folder goes by its age alone: it has no key yet that a row could name.

One process of the cluster collects at a time, under a lease. That saves work; two at once would harm nothing.
A store and its database are tied by an id in both; with any other database nothing is removed, or a forgotten setting
or a new, empty database would make every object an orphan.
A key that `object_keys` does not spell belongs to somebody else and is left alone.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, select, update

from service import duties, object_keys
from service.bootstrap import Factory, put_marker
from service.clock import database_now, read_clock
from service.errors import Conflict, NotFound, ServiceError
from service.object_keys import ObjectKey
from service.plan import ENDED
from service.references import referenced
from service.storage import ListedObject, ObjectStorage
from service.tables import ImagePool, Step
from service.unit_of_work import Work

log = structlog.get_logger(__name__)

BATCH = 500


@dataclass
class Collected:
    """What one collection saw and did."""

    num_seen: int = 0
    """Objects in the store."""
    num_unknown: int = 0
    """Objects whose keys are none of ours; they stay."""
    num_removed: int = 0
    """Orphans removed; in a dry run, that would be."""
    num_bytes: int = 0
    """Their lengths together."""
    num_failed: int = 0
    """Orphans that the store did not delete; they are tried again next time."""
    num_forgotten: int = 0
    """Checkpoints that the rows of steps long ended let go."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Removed orphans by kind of key; `unfinished` is what killed writers left of objects."""


def collect_in_turn(
    factory: Factory, *, every_seconds: float = 0.0, stop: Callable[[], bool] = lambda: False
) -> Collected | None:
    """Collect if nobody else is at it and the last time is long enough ago; None otherwise. Raises StorageError."""
    with factory.work() as work:
        owner = f"{socket.gethostname()}:{os.getpid()}"
        token = duties.take(work, duties.COLLECT, owner=owner, every_seconds=every_seconds)
    if token is None:
        return None

    renewed_at = time.monotonic()

    def stopped() -> bool:
        nonlocal renewed_at
        if time.monotonic() - renewed_at > factory.settings.lease_seconds / 4:
            with factory.work() as work:
                duties.renew(work, duties.COLLECT, token)
            renewed_at = time.monotonic()
        return stop()

    done = False
    try:
        collected = collect(factory, stop=stopped)
        done = not stop()
    finally:
        with suppress(ServiceError), factory.work() as work:
            (duties.finish if done else duties.give_back)(work, duties.COLLECT, token)
    log.info(
        "removed orphaned objects",
        objects=collected.num_removed,
        bytes=collected.num_bytes,
        seen=collected.num_seen,
        unknown=collected.num_unknown,
        failed=collected.num_failed,
        kinds=dict(collected.kinds),
    )
    return collected


def collect(
    factory: Factory,
    *,
    dry_run: bool = False,
    stop: Callable[[], bool] = lambda: False,
    on_orphan: Callable[[ListedObject], None] = lambda _found: None,
    older_than_seconds: float | None = None,
) -> Collected:
    """Go through the store once. Raises StorageError when it cannot be listed, Conflict when it is another database's.

    `stop` is asked before each batch and each removal. `older_than_seconds` stands in for `orphan_seconds`; only tests set it.
    """
    age = timedelta(seconds=factory.settings.orphan_seconds if older_than_seconds is None else older_than_seconds)
    require_own_store(factory)
    collection = _Collection(factory, age, dry_run, stop, on_orphan)
    if not dry_run:
        collection.forget_checkpoints()
    for batch in _batches(factory):
        if stop():
            break
        collection.look_at(batch)
    else:
        collection.remove_unfinished()
    return collection.result


def require_own_store(factory: Factory) -> None:
    """Tie store and database together, or prove that they are. Raises Conflict: to another database all are orphans."""
    try:
        owner = store_owner(factory.storage)
    except NotFound:
        owner = f"store-{uuid.uuid4().hex}"
        with factory.work() as work:
            duties.ensure(work, owner)
        factory.storage.put_stream(object_keys.STORE_OWNER, [json.dumps({"database": owner}).encode()])
        return
    with factory.read() as work:
        if not duties.exists(work, owner):
            raise Conflict(
                "The objects belong to another database; nothing is removed. Check LABEL_FACTORY_DATABASE_URL and "
                f"LABEL_FACTORY_STORAGE_URL. If this database shall own them, delete {object_keys.STORE_OWNER} there: "
                "what no row of this database names is removed then."
            )


def store_owner(storage: ObjectStorage) -> str:
    """Id of the database that the objects belong to, empty where it cannot be read. Raises NotFound while nobody's."""
    document = b"".join(storage.get_stream(object_keys.STORE_OWNER))
    try:
        return str(json.loads(document)["database"])
    except (ValueError, KeyError, TypeError):
        return ""


def _batches(factory: Factory) -> Iterator[Sequence[ListedObject]]:
    for listed in factory.storage.scan():
        for start in range(0, len(listed), BATCH):
            yield listed[start : start + BATCH]


class _Collection:
    """One way through the store."""

    def __init__(
        self,
        factory: Factory,
        age: timedelta,
        dry_run: bool,
        stop: Callable[[], bool],
        on_orphan: Callable[[ListedObject], None],
    ) -> None:
        self._factory, self._age, self._dry_run = factory, age, dry_run
        self._stop, self._on_orphan = stop, on_orphan
        self._written_before = self._now() - age
        """Only what was written earlier is ever deleted."""
        self.result = Collected()

    def _now(self) -> datetime:
        """The earlier of the store's clock, read off an object written now, and the database's."""
        put_marker(self._factory.storage)
        with self._factory.read() as work:
            database_time = read_clock(work.session)
        return min(self._factory.storage.stat(object_keys.STORE_MARKER).modified_at, database_time)

    def forget_checkpoints(self) -> None:
        """Take the checkpoints from the rows of steps that ended long ago."""
        ended_at = func.coalesce(Step.finished_at, Step.created_at)
        long_ended = (
            Step.state.in_(ENDED),
            Step.checkpoint_key.is_not(None),
            ended_at < database_now(-self._age.total_seconds()),
        )
        # Rows that somebody else holds are passed by: a job that is being retried keeps its checkpoints.
        query = select(Step.id).where(*long_ended).limit(BATCH).with_for_update(skip_locked=True, key_share=True)
        while not self._stop():
            with self._factory.work() as work:
                ids = list(work.session.scalars(query))
                change = update(Step).where(Step.id.in_(ids)).values(checkpoint_key=None)
                work.session.execute(change, execution_options={"synchronize_session": False})
            self.result.num_forgotten += len(ids)
            if len(ids) < BATCH:
                return

    def remove_unfinished(self) -> None:
        """Remove what killed writers left of objects that never came to be."""
        for found in self._factory.storage.remove_unfinished(self._written_before, dry_run=self._dry_run):
            self._count(found, "unfinished")

    def look_at(self, batch: Sequence[ListedObject]) -> None:
        """Remove the orphans of one batch."""
        self.result.num_seen += len(batch)
        keys = [object_keys.parse(found.key) for found in batch]
        self.result.num_unknown += keys.count(None)
        old = {
            key: found
            for key, found in zip(keys, batch, strict=True)
            if key is not None and found.modified_at < self._written_before
        }
        if not old:
            return
        with self._factory.read() as work:
            kept = referenced(work, list(old), forgotten_before=self._written_before if self._dry_run else None)
        for key, found in old.items():
            if key.key not in kept and not self._stop():
                self._remove(key, found)

    def _remove(self, key: ObjectKey, found: ListedObject) -> None:
        try:
            removed = self._dry_run or self._delete(key)
        except ServiceError as error:
            log.warning("an orphan was not removed", key=key.key, error=str(error))
            self.result.num_failed += 1
            return
        if removed:
            self._count(found, key.kind)

    def _count(self, found: ListedObject, kind: str) -> None:
        self._on_orphan(found)
        self.result.num_removed += 1
        self.result.num_bytes += found.num_bytes
        self.result.kinds[kind] += 1

    def _delete(self, key: ObjectKey) -> bool:
        if key.kind == "pool_part":
            with self._factory.work() as work:
                return _is_alone(work, key) and self._delete_if_old(key)
        return self._delete_if_old(key)

    def _delete_if_old(self, key: ObjectKey) -> bool:
        storage = self._factory.storage
        try:
            if storage.stat(key.key).modified_at >= self._written_before:
                return False
        except NotFound:
            return False
        storage.delete(key.key)
        return True


def _is_alone(work: Work, key: ObjectKey) -> bool:
    """Whether nobody can be adding this part: the pool is gone, or its lock is ours and no row names the part."""
    exists = work.session.scalar(select(ImagePool.id).where(ImagePool.id == key.owner_id)) is not None
    lock = select(ImagePool.id).where(ImagePool.id == key.owner_id).with_for_update(skip_locked=True, key_share=True)
    locked = work.session.scalar(lock) is not None
    return locked == exists and not referenced(work, [key])
