"""HEAD answers what GET does, without the body and without the work behind it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient

from api.app import create_app
from service.bootstrap import Factory
from tests import factories
from tests.clients import api_key

#: Differ from answer to answer.
PASSING = {"x-request-id"}


def headers_of(client: TestClient, method: str, path: str) -> tuple[int, dict[str, str]]:
    answer = client.request(method, path)
    return answer.status_code, {name: value for name, value in answer.headers.items() if name not in PASSING}


@pytest.mark.parametrize("path", ["/healthz", "/v1/jobs", "/v1/jobs/job_none", "/", "/jobs", "/static/mark.svg", "/no"])
def test_head_is_get_without_the_body(client: TestClient, path: str) -> None:
    assert headers_of(client, "HEAD", path) == headers_of(client, "GET", path)
    assert client.head(path).content == b""


def test_head_of_a_stream_without_an_end_ends(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    answer = client.head(f"/v1/jobs/{job.id}/events")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("path", ["/v1/jobs", "/static/dashboard.css"])
def test_the_application_sends_headers_and_one_empty_end(factory: Factory, path: str) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()  # the client stays and says no more
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer {api_key(factory)}".encode())]
    scope = {"type": "http", "method": "HEAD", "path": path, "query_string": b"", "headers": headers}
    asyncio.run(create_app(factory)(scope, receive, send))
    assert sent[0]["status"] == 200
    assert sent[1:] == [{"type": "http.response.body", "body": b"", "more_body": False}]


def test_head_where_there_is_only_post_is_405(client: TestClient) -> None:
    answer = client.head("/v1/image-pools/pool_none/images")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_what_is_allowed_names_head(client: TestClient) -> None:
    assert client.delete("/v1/jobs").headers["allow"] == "GET, HEAD, POST"


def test_the_log_line_says_head_and_its_route(client: TestClient) -> None:
    with structlog.testing.capture_logs() as lines:
        client.head("/v1/jobs/job_none")
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [("HEAD", "/v1/jobs/{job_id}", 404)]
