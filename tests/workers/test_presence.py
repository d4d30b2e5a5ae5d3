"""A worker process says that it is there, also while it is idle, and takes leave when it ends."""

from __future__ import annotations

import threading
import time

import pytest

from service import workers
from service.bootstrap import Factory
from service.settings import Settings
from service.tables import Worker
from workers.presence import start_presence


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data_dir=tmp_path / "data", heartbeat_seconds=0.05)


def alive(factory: Factory) -> list[Worker]:
    with factory.read() as work:
        return workers.alive(work)


def test_a_worker_beats_until_it_ends(factory: Factory) -> None:
    shutdown = threading.Event()
    thread = start_presence(factory, "host:1", ["cpu"], shutdown)
    deadline = time.monotonic() + 30
    while not (found := alive(factory)) or found[0].seen_at == found[0].started_at:
        assert time.monotonic() < deadline, "no second beat"
        time.sleep(0.02)
    (row,) = found
    assert row.queues == ["cpu"]
    assert row.device
    assert 0 < row.memory_used_bytes < row.memory_total_bytes
    assert row.scratch_free_bytes > 0
    assert time.time() - (factory.settings.resolved_scratch_dir / "alive").stat().st_mtime < 60
    shutdown.set()
    thread.join(30)
    assert alive(factory) == []


def test_an_outage_of_the_database_is_survived(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    real = workers.beat

    def failing(work, sign) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise ConnectionError("away")
        real(work, sign)

    monkeypatch.setattr(workers, "beat", failing)
    shutdown = threading.Event()
    thread = start_presence(factory, "host:1", ["cpu"], shutdown)
    deadline = time.monotonic() + 30
    while not alive(factory):
        assert time.monotonic() < deadline, "it gave up"
        time.sleep(0.02)
    shutdown.set()
    thread.join(30)
