"""A job whose labelling sleeps ends like any other."""

import pytest

from benchmarks.load import sleeping_worker
from benchmarks.load.many_shards import job_document
from service import datasets, jobs
from service.bootstrap import Factory
from service.job_spec import parse
from tests.factories import job_now
from workers.handlers import HANDLERS
from workers.runtime import run_next_step


def test_a_job_of_sleeping_shards_is_sealed(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sleeping_worker.SECONDS, "0")
    handlers = {**HANDLERS, "fit_head": sleeping_worker.fit_head, "label_shard": sleeping_worker.label_shard}
    document = job_document(factory, 1)
    with factory.work() as work:
        job_id = jobs.create(work, parse(document)).job.id
    while run_next_step(factory, "worker", handlers):
        pass
    job = job_now(factory, job_id)
    assert job.state == "succeeded", job.error
    with factory.read() as work:
        assert datasets.get(work, str(job.result["dataset_id"])).num_images == document["num_images"]
