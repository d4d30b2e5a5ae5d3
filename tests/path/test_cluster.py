"""The same path on PostgreSQL, an S3-compatible store and Redis, with two Celery workers that share the shards."""

from __future__ import annotations

import os
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from service import steps
from service.bootstrap import build_factory, prepare
from service.settings import Settings
from tests import tiny
from tests.clients import api_client
from tests.conftest import empty_tables
from tests.path import journey
from tests.servers import S3Address


def celery(name: str, queues: str) -> list[str]:
    """Arguments of a Celery worker."""
    return [
        "-m",
        "celery",
        "-A",
        "workers.celery_app",
        "worker",
        "-Q",
        queues,
        "-n",
        f"{name}@test",
        "--without-gossip",
        "--without-mingle",
        "--loglevel",
        "info",
    ]


@pytest.mark.timeout(400)
def test_two_celery_workers_share_a_job(
    tmp_path: Path, postgresql_url: str, s3_address: S3Address, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_tables(postgresql_url)
    tiny.generator_folder(tmp_path / "generators")
    environment = {
        **s3_address.environment("cluster"),
        "LABEL_FACTORY_DATABASE_URL": postgresql_url,
        "LABEL_FACTORY_BROKER_URL": redis_url,
        "LABEL_FACTORY_BUNDLED_GENERATORS_DIR": str(tmp_path / "generators"),
        "LABEL_FACTORY_SHARD_SIZE": "8",
        "LABEL_FACTORY_REAP_SECONDS": "2",
        "LABEL_FACTORY_TORCH_THREADS": "1",
        "LABEL_FACTORY_TRAINING_PROCESSES": "2",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    factory = build_factory(Settings(data_dir=tmp_path / "api"))
    prepare(factory)
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    with (
        api_client(factory, raise_server_exceptions=True) as client,
        worker("first", "gpu,cpu", tmp_path, logs[0]) as first,
        worker("second", "gpu", tmp_path, logs[1]) as second,
    ):
        references = journey.upload(client)
        job_id = journey.submit(client, num_images=64, sampling_steps=20, **references)
        job = journey.wait(client, job_id, 300, first, second)
        assert job["state"] == "succeeded", job["error"] or logs[0].read_text()[-3000:]
        with factory.read() as work:
            owners = {step.owner for step in steps.list_of_job(work, job_id) if step.kind == "label_shard"}
        assert len(owners) == 2, owners
        journey.check_take_home(client, job, tmp_path / "home")
        job = journey.wait(client, journey.train_generator(client), 200, first, second)
        assert job["state"] == "succeeded", "\n".join(job["error"]["trace"])
        log = client.get(f"/v1/jobs/{job['id']}/events").text
        assert "2 processes share every batch of 4 images" in log
    assert (first.returncode, second.returncode) == (0, 0)
    assert not list((tmp_path / "api").rglob("*.tar")), "objects belong into the store"
    factory.close()


def worker(name: str, queues: str, folder: Path, log: Path) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A Celery worker with scratch of its own; the rest of its settings is in this process's environment."""
    environment = {**os.environ, "LABEL_FACTORY_DATA_DIR": str(folder / name)}
    return journey.process(celery(name, queues), environment, log)
