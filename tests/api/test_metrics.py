"""Prometheus reads requests by route and what waits in the database."""

from __future__ import annotations

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from service import workers
from service.bootstrap import Factory
from service.workers import SignOfLife
from tests import factories


def test_requests_are_counted_by_route_not_by_path(client: TestClient) -> None:
    for number in range(3):
        client.get(f"/v1/jobs/job_{number}")
    text = client.get("/metrics").text
    assert 'http_requests_total{method="GET",route="/v1/jobs/{job_id}",status="404"} 3.0' in text
    assert "job_1" not in text
    assert "http_request_seconds_bucket" in text
    assert "process_resident_memory_bytes" in text


def test_unknown_paths_make_one_series(client: TestClient) -> None:
    client.get("/a")
    client.get("/b")
    assert 'route="unmatched",status="404"} 2.0' in client.get("/metrics").text


def test_jobs_and_steps_are_gauges(client: TestClient, factory: Factory) -> None:
    factories.make_job(factory)
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'label_factory_jobs{state="queued"} 1.0' in answer.text
    assert 'label_factory_steps{queue="gpu",state="ready"} 1.0' in answer.text
    assert 'label_factory_webhook_messages{state="pending"} 0.0' in answer.text


def samples(client: TestClient) -> dict[tuple[str, frozenset], float]:
    """Every sample of a scrape, read as Prometheus reads it."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def test_what_the_database_counted_is_told(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    factories.run_to_end(factory, job.id)
    found = samples(client)

    def value(name: str, **labels: str) -> float:
        return found[f"label_factory_{name}", frozenset(labels.items())]

    assert value("database_up") == 1
    assert value("images_total", pool="synthesized") == 600
    assert value("steps_ended_total", kind="label_shard", state="succeeded") == 3
    assert value("step_seconds_bucket", kind="label_shard", le="3600") == 3
    assert value("step_seconds_bucket", kind="label_shard", le="+Inf") == 3
    assert value("step_seconds_count", kind="label_shard") == 3
    assert value("lease_seconds") == factory.settings.lease_seconds
    assert value("disk_free_bytes") > 0


def test_workers_and_their_devices_are_told(client: TestClient, factory: Factory) -> None:
    with factory.work() as work:
        for name in ("host:1", "host:2"):
            workers.beat(work, SignOfLife(name, "host", ["gpu"], "NVIDIA H200 0123abcd", 40, 100, 7))
    found = samples(client)
    device = frozenset({("machine", "host"), ("device", "NVIDIA H200 0123abcd")})
    assert found["label_factory_workers", frozenset({("queue", "gpu")})] == 2
    assert found["label_factory_workers", frozenset({("queue", "cpu")})] == 0
    assert found["label_factory_device_memory_used_bytes", device] == 40
    assert found["label_factory_scratch_free_bytes", frozenset({("machine", "host")})] == 7


def test_no_id_becomes_a_label(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    factories.run_to_end(factory, job.id)
    assert "_0" not in "".join(name for name, _ in samples(client))
    assert job.id not in client.get("/metrics").text


def test_a_scrape_without_the_database_says_so(client: TestClient, factory: Factory) -> None:
    with factory.engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs RENAME TO lost"))
    assert samples(client)["label_factory_database_up", frozenset()] == 0
    assert ("label_factory_workers", frozenset({("queue", "gpu")})) not in samples(client)
