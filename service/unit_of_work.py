"""The unit of work: one request or one step record is one transaction; doorbells ring after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import sessionmaker

from service import tallies
from service.doorbell import Doorbell
from service.errors import StorageFull
from service.settings import Settings
from service.storage import ObjectStorage
from service.tenancy import ADDED, WorkspaceSession

log = structlog.get_logger(__name__)

# SQLite's and PostgreSQL's words for a full disk.
FULL_SIGNS = ("database or disk is full", "No space left on device", "could not extend file")


class Work:
    """What service functions work with: an open transaction, the object store and the settings.

    Store objects before the first query where you can: on SQLite a transaction keeps all other writers waiting.
    """

    def __init__(self, session: WorkspaceSession, storage: ObjectStorage, settings: Settings) -> None:
        self.session = session
        self.storage = storage
        self.settings = settings
        self._queues: set[str] = set()
        self._counts: dict[tallies.Key, float] = defaultdict(float)
        self._notes: list[tuple[str, dict[str, Any]]] = []

    def ring(self, queue: str) -> None:
        """Wake the workers of a queue once this work is committed; dropped if it is rolled back."""
        self._queues.add(queue)

    def count(self, key: tallies.Key, amount: float = 1) -> None:
        """Add to a count that Prometheus reads, as part of this work."""
        self._counts[key] += amount

    def note(self, event: str, **ids: Any) -> None:
        """Log a line once this work is committed; dropped if it is rolled back."""
        self._notes.append((event, ids))

    @property
    def added(self) -> list[str]:
        """Ids of the rows that this work added to its workspace so far, in order."""
        return list(self.session.info.get(ADDED, ()))

    @property
    def rung(self) -> frozenset[str]:
        """Queues to ring after the commit."""
        return frozenset(self._queues)

    def write_counts(self) -> None:
        """Write what was counted; the last thing before the commit."""
        tallies.write(self.session, self._counts)

    def tell(self) -> None:
        """Log what was noted; after the commit."""
        for event, ids in self._notes:
            log.info(event, **ids)


@contextmanager
def unit_of_work(
    sessions: sessionmaker[WorkspaceSession],
    storage: ObjectStorage,
    settings: Settings,
    doorbell: Doorbell,
    bound_to: Mapping[str, str | None],
) -> Iterator[Work]:
    """Open a Work, bound to a workspace and a key where they are named; commit on exit and ring, or roll back on an exception.

    Raises StorageFull.
    """
    try:
        with sessions(info=dict(bound_to)) as session, session.begin():
            work = Work(session, storage, settings)
            yield work
            work.write_counts()
    except DBAPIError as error:
        if any(sign in str(error.orig) for sign in FULL_SIGNS):
            raise StorageFull("The disk of the database is full. Free space, then try again.") from error
        raise
    work.tell()
    for queue in sorted(work.rung):
        doorbell.ring(queue)
