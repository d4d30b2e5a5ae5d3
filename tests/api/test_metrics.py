"""Prometheus reads requests by route and what waits in the database."""

from __future__ import annotations

from fastapi.testclient import TestClient

from service.bootstrap import Factory
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
