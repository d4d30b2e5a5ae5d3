"""The same question asked by many at once is put to the database once.

A request joins only a read that has not begun, so that nobody gets an answer older than its question: nothing is kept
and nothing can be stale. What many clients ask at the same time (is this key good? which jobs are there?) then costs
one read for all who wait, however many they are.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

Found = TypeVar("Found")


class SharedReads:
    """At most one read of a key runs and one waits; belongs to one event loop.

    A read that follows another of its key begins `pause_seconds` after it: clients that were just answered often ask again
    at once, and join those who wait instead of taking turns with them. Who comes alone never waits for that.
    """

    def __init__(self, pause_seconds: float = 0.0) -> None:
        self._pause_seconds = pause_seconds
        self._running: dict[Hashable, asyncio.Task[Any]] = {}
        self._waiting: dict[Hashable, asyncio.Task[Any]] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[Found]]) -> Found:
        """What `read` finds; requests with the same key must mean the same. Raises what it raises."""
        task = self._waiting.get(key)
        if task is None:
            task = self._waiting[key] = asyncio.create_task(self._run(key, read))
        # A client that hangs up must not take the read from the others.
        found: Found = await asyncio.shield(task)
        return found

    async def _run(self, key: Hashable, read: Callable[[], Awaitable[Found]]) -> Found:
        if (before := self._running.get(key)) is not None:
            await asyncio.wait([before])
            await asyncio.sleep(self._pause_seconds)
        self._running[key] = self._waiting.pop(key)
        try:
            return await read()
        finally:
            del self._running[key]
