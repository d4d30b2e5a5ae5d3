"""One look at the database serves all streams, and ends with the last of them."""

import asyncio
from dataclasses import replace

from sqlalchemy import event

from api.job_watch import JobWatch
from service import events, jobs
from service.bootstrap import Factory
from tests.factories import make_job

SECONDS = 30


def quick(factory: Factory) -> JobWatch:
    settings = factory.settings.model_copy(update={"event_poll_seconds": 0.02})
    return JobWatch(replace(factory.unbound(), settings=settings))


def last_id(factory: Factory, job_id: str) -> int:
    with factory.read() as work:
        return events.after(work, job_id)[-1].id


def test_all_who_follow_a_job_hear_of_its_event(factory: Factory) -> None:
    job, other = make_job(factory), make_job(factory)
    watch = quick(factory)

    async def scenario() -> None:
        with watch.follow(job.id) as one, watch.follow(job.id) as two, watch.follow(other.id) as third:
            seen = last_id(factory, job.id)
            waiting = [asyncio.create_task(followed.news(seen)) for followed in (one, two)]
            silent = asyncio.create_task(third.news(last_id(factory, other.id)))
            await asyncio.sleep(0.1)
            assert not any(task.done() for task in (*waiting, silent))
            with factory.work() as work:
                events.log(work, job.id, None, "news")
            async with asyncio.timeout(SECONDS):
                await asyncio.gather(*waiting)
            assert not silent.done()
            silent.cancel()

    asyncio.run(scenario())


def test_the_end_of_a_job_and_a_job_that_is_no_more_are_news(factory: Factory) -> None:
    job = make_job(factory)
    watch = quick(factory)

    async def scenario() -> None:
        with watch.follow(job.id) as followed, watch.follow("job_none") as gone:
            async with asyncio.timeout(SECONDS):
                await gone.news(10**9)
                with factory.work() as work:
                    jobs.cancel(work, job.id)
                await followed.news(10**9)

    asyncio.run(scenario())


def test_many_streams_cost_one_query_and_none_when_they_have_gone(factory: Factory) -> None:
    job_ids = [make_job(factory).id for _ in range(3)]
    watch = quick(factory)
    queries = []
    event.listen(factory.engine, "before_cursor_execute", lambda *arguments: queries.append(arguments[2]))

    async def scenario() -> None:
        following = [watch.follow(job_id) for job_id in job_ids * 20]
        followed = [one.__enter__() for one in following]
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*(one.news(0) for one in followed))
        assert len(queries) < 20
        for one in following:
            one.__exit__(None, None, None)
        await asyncio.sleep(0.1)
        queries.clear()
        await asyncio.sleep(0.1)
        assert queries == []

    asyncio.run(scenario())


def test_a_database_that_is_away_for_a_moment_ends_no_stream(factory: Factory) -> None:
    job = make_job(factory)
    watch = quick(factory)
    failing = [True]

    def fail(*_arguments: object) -> None:
        if failing[0]:
            raise RuntimeError("away")

    event.listen(factory.engine, "before_cursor_execute", fail)

    async def scenario() -> None:
        with watch.follow(job.id) as followed:
            waiting = asyncio.create_task(followed.news(0))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            failing[0] = False
            async with asyncio.timeout(SECONDS):
                await waiting

    asyncio.run(scenario())
