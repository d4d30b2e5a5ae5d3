"""Request ids, one log line per request, and the crash that is logged with its id."""

from __future__ import annotations

import time

import pytest
import structlog
from fastapi.testclient import TestClient

from api import authentication
from service import jobs
from service.bootstrap import Factory
from tests import factories


def test_a_well_formed_id_is_kept(client: TestClient) -> None:
    assert client.get("/v1/jobs", headers={"x-request-id": "abc-1.2_3"}).headers["x-request-id"] == "abc-1.2_3"


@pytest.mark.parametrize("offered", ["", "a b", "x" * 65, "<script>", "a\tb"])
def test_another_id_is_replaced(client: TestClient, offered: str) -> None:
    given = client.get("/v1/jobs", headers={"x-request-id": offered}).headers["x-request-id"]
    assert given != offered
    assert len(given) == 32


def test_each_request_is_one_line(client: TestClient) -> None:
    with structlog.testing.capture_logs() as lines:
        client.get("/v1/jobs/job_x?secret=1")
        client.get("/healthz")
    assert [line["event"] for line in lines] == ["request"]
    assert lines[0]["route"] == "/v1/jobs/{job_id}"
    assert (lines[0]["status"], lines[0]["path"]) == (404, "/v1/jobs/job_x")
    assert lines[0]["job_id"] == "job_x"


def test_what_a_request_did_is_logged_with_its_id(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars])
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        client.post(f"/v1/jobs/{job.id}:cancel", headers={"x-request-id": "from-outside"})
    assert [line["event"] for line in lines] == ["job state", "job state", "request"]
    assert {(line["request_id"], line["job_id"]) for line in lines} == {("from-outside", job.id)}


def test_a_crash_is_logged_with_its_error(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(jobs, "get", crash)
    with structlog.testing.capture_logs() as lines:
        client.get("/v1/jobs/job_x")
    assert [line["event"] for line in lines] == ["request crashed", "request"]
    assert lines[1]["status"] == 500


def test_a_request_takes_until_its_answer_is_sent_not_until_all_is_written_down(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "_record_refusal", lambda *_: time.sleep(1.5))
    with structlog.testing.capture_logs() as lines:
        client.post("/v1/jobs/job_x:cancel")
    assert lines[-1]["status"] == 404
    assert lines[-1]["milliseconds"] < 1_500
