"""Every route with every hostile id, number and query: a problem document, never a 500."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

HOSTILE = [
    "%00",
    "a%00b",
    "..%2F..%2Fetc%2Fpasswd",
    "%ED%A0%80",
    "%F0%9F%92%A9",
    "%27%20OR%201%3D1%20--",
    "%3Cscript%3E",
    "9223372036854775808",
    "-1",
    "NaN",
    "1e999",
    "x" * 3000,
    "%E2%80%AE",
]
EXAMPLES = {"index": "0", "event_id": "1", "name": "config.json"}
METHODS = ("get", "post", "patch", "delete")


@pytest.fixture
def operations(client: TestClient) -> list[tuple[str, str, dict[str, Any]]]:
    """Method, path and description of every operation."""
    paths = client.get("/openapi.json").json()["paths"]
    return [(method, path, item[method]) for path, item in paths.items() for method in METHODS if method in item]


def filled(path: str, **values: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], EXAMPLES.get(match[1], "job_none")), path)


def assert_refused(client: TestClient, method: str, url: str) -> None:
    answer = client.request(method, url)
    assert 400 <= answer.status_code < 500, (method, url[:200], answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == "application/problem+json"


def test_hostile_path_parts(client: TestClient, operations: list[tuple[str, str, dict[str, Any]]]) -> None:
    for method, path, _ in operations:
        for parameter in re.findall(r"\{(\w+)\}", path):
            for value in HOSTILE:
                assert_refused(client, method, filled(path, **{parameter: value}))


def test_hostile_queries(client: TestClient, operations: list[tuple[str, str, dict[str, Any]]]) -> None:
    for method, path, operation in operations:
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "query":
                for value in HOSTILE[::2]:
                    answer = client.request(method, f"{filled(path)}?{parameter['name']}={value}")
                    assert answer.status_code < 500, (method, path, parameter["name"], value[:50], answer.text[:300])


@pytest.mark.parametrize(
    "name", ["accept", "range", "if-none-match", "if-range", "last-event-id", "x-request-id", "host"]
)
def test_hostile_headers(client: TestClient, name: str) -> None:
    for value in (b"\xff\xfe", b"x" * 5000, b"bytes=--", b'"', b"a,b;c=d", b"[::1", b"evil:99999"):
        for path in ("/v1/jobs", "/v1/jobs/job_none/events", "/v1/students/stu_none/archive", "/healthz"):
            assert client.get(path, headers={name: value}).status_code < 500
