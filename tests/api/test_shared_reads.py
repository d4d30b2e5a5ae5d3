"""The same question at the same time is one read; nobody gets an answer older than its question."""

import asyncio
from collections.abc import Callable

import pytest

from api.shared_reads import SharedReads


class Reader:
    """A read that takes as long as the test wants."""

    def __init__(self) -> None:
        self.started = 0
        self.go_on = asyncio.Semaphore(0)

    async def __call__(self) -> int:
        self.started += 1
        mine = self.started
        await self.go_on.acquire()
        return mine


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


def test_who_asks_during_a_read_waits_for_the_next_one() -> None:
    async def scenario() -> None:
        reads, read = SharedReads(), Reader()
        first = asyncio.create_task(reads.get("jobs", read))
        await until(lambda: read.started == 1)
        later = [asyncio.create_task(reads.get("jobs", read)) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert read.started == 1
        read.go_on.release()
        read.go_on.release()
        assert await first == 1
        assert await asyncio.gather(*later) == [2] * 20
        assert read.started == 2

    asyncio.run(scenario())


def test_who_was_just_answered_joins_those_who_wait() -> None:
    async def scenario() -> None:
        reads, read = SharedReads(pause_seconds=0.2), Reader()
        first = asyncio.create_task(reads.get("jobs", read))
        await until(lambda: read.started == 1)
        waiting = asyncio.create_task(reads.get("jobs", read))
        await asyncio.sleep(0)
        for _ in range(3):
            read.go_on.release()
        assert await first == 1
        assert await asyncio.gather(reads.get("jobs", read), waiting) == [2, 2]

    asyncio.run(scenario())


def test_other_keys_do_not_wait() -> None:
    async def scenario() -> None:
        reads, slow, quick = SharedReads(), Reader(), Reader()
        waiting = asyncio.create_task(reads.get("a", slow))
        quick.go_on.release()
        assert await reads.get("b", quick) == 1
        slow.go_on.release()
        assert await waiting == 1

    asyncio.run(scenario())


def test_a_failure_reaches_all_who_wait_and_nobody_after() -> None:
    async def scenario() -> None:
        reads, answers = SharedReads(), iter([KeyError("gone"), None])

        async def read() -> str:
            if (error := next(answers)) is not None:
                raise error
            return "back"

        found = await asyncio.gather(*(reads.get("x", read) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in found] == [KeyError] * 3
        assert await reads.get("x", read) == "back"

    asyncio.run(scenario())


def test_a_client_that_hangs_up_does_not_take_the_read_from_the_others() -> None:
    async def scenario() -> None:
        reads, read = SharedReads(), Reader()
        leaving, staying = (asyncio.create_task(reads.get("x", read)) for _ in range(2))
        await until(lambda: read.started == 1)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        read.go_on.release()
        assert await staying == 1

    asyncio.run(scenario())
