"""One look at the database for all event streams of this process: it tells each stream when its job has news."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import anyio.to_thread
import structlog

from service import events
from service.bootstrap import Factory
from service.events import Newest

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")


class Followed:
    """A job that streams follow."""

    def __init__(self) -> None:
        self.num_streams = 0
        self._newest = Newest(0, ended=False)
        self._changed = asyncio.Event()

    def tell(self, newest: Newest) -> None:
        """What the last look found."""
        if newest != self._newest:
            self._newest = newest
            self._changed.set()
            self._changed = asyncio.Event()

    async def news(self, last_id: int) -> None:
        """Wait until there is an event after `last_id`, or the job has ended."""
        while self._newest.event_id <= last_id and not self._newest.ended:
            await self._changed.wait()


class JobWatch:
    """Looks while there are streams, and not otherwise; belongs to one event loop."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self._followed: dict[str, Followed] = {}
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def follow(self, job_id: str) -> Iterator[Followed]:
        """Be told of this job's news."""
        followed = self._followed.setdefault(job_id, Followed())
        followed.num_streams += 1
        if self._task is None:
            self._task = asyncio.create_task(self._look_again())
        try:
            yield followed
        finally:
            followed.num_streams -= 1
            if followed.num_streams == 0:
                del self._followed[job_id]
            if not self._followed and self._task is not None:
                self._task.cancel()
                self._task = None

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._factory.settings.event_poll_seconds)
            try:
                found = await anyio.to_thread.run_sync(self._look, list(self._followed))
            except Exception:
                # Whatever the database raises: the streams stay open until it answers again.
                log.exception("could not look for events")
                continue
            for job_id, newest in found.items():
                if job_id in self._followed:
                    self._followed[job_id].tell(newest)

    def _look(self, job_ids: list[str]) -> dict[str, Newest]:
        with self._factory.read() as work:
            return events.newest_of(work, job_ids)
