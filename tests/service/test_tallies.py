"""Counts grow by what was committed, once, whoever adds at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from service import jobs, steps, tallies
from service.bootstrap import Factory
from tests import factories


def counts(factory: Factory) -> dict[str, dict[tuple[str, str], float]]:
    with factory.read() as work:
        return tallies.read(work.session)


def test_a_whole_job_is_counted(any_factory: Factory) -> None:
    job = factories.make_job(any_factory)
    factories.run_to_end(any_factory, job.id)
    found = counts(any_factory)
    assert found["steps"]["label_shard", "succeeded"] == 3
    assert found["images"] == {("synthesized", ""): 600}
    assert sum(number for (kind, _), number in found["step_seconds"].items() if kind == "label_shard") == 3
    assert found["step_seconds_sum"]["fit_head", ""] >= 0
    assert "failures" not in found


def test_what_is_rolled_back_was_not_counted(any_factory: Factory) -> None:
    with suppress(RuntimeError), any_factory.work() as work:
        tallies.images_labelled(work, "encoded", 5)
        raise RuntimeError
    assert counts(any_factory) == {}


def test_every_failed_attempt_is_counted_by_its_reason(any_factory: Factory) -> None:
    factories.make_job(any_factory)
    for retryable in (True, False):
        step = factories.must_claim(any_factory)
        with any_factory.work() as work:
            steps.record_failure(work, step.id, step.token, {"type": "io"}, retryable=retryable)
            steps.get(work, step.id).not_before = None
    found = counts(any_factory)
    assert found["failures"] == {("fit_head", "io"): 2}
    assert found["steps"] == {("fit_head", "failed"): 1}


def test_a_retry_after_lost_workers_does_not_count_them_twice(any_factory: Factory) -> None:
    job = factories.make_job(any_factory)
    for _ in range(any_factory.settings.max_attempts):
        factories.lose(any_factory, factories.must_claim(any_factory).id)
    with any_factory.work() as work:
        steps.reap(work)
    assert factories.job_now(any_factory, job.id).state == "failed"
    assert counts(any_factory)["failures"] == {("fit_head", "worker-lost"): 3}
    with any_factory.work() as work:
        jobs.retry(work, job.id)
    factories.run_to_end(any_factory, job.id)
    assert counts(any_factory)["failures"] == {("fit_head", "worker-lost"): 3}


def test_many_at_once_lose_nothing_and_do_not_block_each_other(any_factory: Factory) -> None:
    keys = [("failures", kind, "io") for kind in ("a", "b", "c", "d")]

    def add(number: int) -> None:
        for _ in range(25):
            with any_factory.work() as work:
                for key in keys if number % 2 else reversed(keys):
                    work.count(key)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert set(counts(any_factory)["failures"].values()) == {100}


def test_buckets() -> None:
    assert [tallies._bucket(seconds) for seconds in (0, 1, 1.01, 3_600, 86_401)] == ["1", "1", "5", "3600", "+Inf"]
