"""Real threads on real databases: shards are shared, nothing is done twice, nobody waits for ever."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from service import datasets, events, steps
from service.bootstrap import Factory
from service.errors import LeaseLost
from service.steps import Progress
from tests.factories import job_now, lose, make_job, record_shard


def work_until_done(factory: Factory, name: str, job_id: str, meeting: threading.Barrier | None = None) -> list[str]:
    """A worker that beats, sometimes falls silent, and records; the steps it recorded.

    With a meeting it waits at its first shard until every other worker holds one too.
    """
    chance = random.Random(name)
    recorded = []
    deadline = time.monotonic() + 200
    while job_now(factory, job_id).state != "succeeded":
        assert time.monotonic() < deadline, "the job does not end"
        with factory.work() as work:
            step = steps.claim(work, queues=("gpu", "cpu"), owner=name)
        if step is None:
            time.sleep(0.005)
            with factory.work() as work:
                steps.reap(work)
            continue
        if meeting is not None and step.kind == "label_shard":
            meeting.wait(timeout=60)
            meeting = None
        if chance.random() < 0.1 and step.attempt == 1:
            lose(factory, step.id)
        with factory.work() as work:
            steps.heartbeat(work, step.id, step.token, progress=Progress(1, 2))
        if chance.random() < 0.1 and step.attempt == 1:
            lose(factory, step.id)
        try:
            with factory.work() as work:
                events.log(work, step.job_id, step.id, "done")
                if step.kind == "label_shard":
                    record_shard(work, step)
                steps.record_success(work, step.id, step.token, {"owner": name})
        except LeaseLost:
            continue
        recorded.append(step.id)
    return recorded


def test_four_workers_share_one_job(any_factory: Factory) -> None:
    job = make_job(any_factory, num_images=256 * 20)
    meeting = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work_until_done, any_factory, f"worker-{n}", job.id, meeting) for n in range(4)]
        recorded = [future.result() for future in futures]
    with any_factory.read() as work:
        rows = steps.list_of_job(work, job.id)
        assert sorted(step_id for one in recorded for step_id in one) == sorted(row.id for row in rows)
        assert len(rows) == 23
        assert datasets.num_recorded(work, str(job_now(any_factory, job.id).result["dataset_id"])) == 256 * 20
        ids = [event.id for event in events.after(work, job.id, limit=10_000)]
    assert ids == sorted(ids)
    assert sum(bool(one) for one in recorded) >= 2
