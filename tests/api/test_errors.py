"""Every error is a problem document."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from api.errors import MAX_ERRORS
from service import jobs
from service.bootstrap import Factory
from service.errors import Invalid, StorageFull, fault

MEMBERS = {"type", "title", "status", "detail", "instance", "request_id", "errors"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/jobs/job_x", 404),
        ("GET", "/v1/jobs/9223372036854775808", 404),
        ("GET", "/v1/jobs/" + "x" * 200, 422),
        ("GET", "/v1/jobs/a%00b", 422),
        ("GET", "/v1/jobs/a%ED%A0%80b", 404),
        ("GET", "/v1/datasets/ds_x/shards/9223372036854775808", 422),
        ("GET", "/v1/datasets/ds_x/shards/-1", 422),
        ("GET", "/v1/datasets/ds_x/images/1e3.png", 422),
        ("GET", "/v1/annotation-sets/ann_x/images/0.png?overlay=NaN", 422),
        ("GET", "/v1/annotation-sets/ann_x/images/0.png?overlay=inf", 422),
        ("GET", "/v1/annotation-sets/ann_x/images/0.png?scale=1000", 422),
        ("GET", "/v1/reports?student_id=a%00b", 422),
        ("GET", "/v1/jobs?state=done", 422),
        ("GET", "/v1/jobs/job_x/samples/99999999999999999999.png", 422),
        ("DELETE", "/v1/jobs", 405),
        ("PUT", "/v1/generators", 405),
        ("POST", "/v1/jobs/job_x:explode", 405),
        ("POST", "/v1/jobs/job_x:cancel", 404),
        ("POST", "/v1/image-pools/pool_x:seal", 404),
    ],
)
def test_each_is_a_problem(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == MEMBERS
    assert problem["status"] == status
    assert problem["type"].startswith("urn:label-factory:problem:")
    assert problem["request_id"] == answer.headers["x-request-id"]


def test_405_names_every_method_of_the_address(client: TestClient) -> None:
    assert client.delete("/v1/jobs").headers["allow"] == "GET, HEAD, POST"
    assert client.put("/v1/jobs/job_x").headers["allow"] == "DELETE, GET, HEAD"
    assert client.post("/jobs").headers["allow"] == "GET, HEAD"


def test_a_crash_tells_nothing_of_its_inside(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(jobs, "get", crash)
    answer = client.get("/v1/jobs/job_x")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "swordfish" not in answer.text
    assert "sqlite" not in answer.text


def test_service_errors_keep_their_status_and_places(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Invalid("Two things.", [fault("a", "is wrong"), fault("b", "too")])

    monkeypatch.setattr(jobs, "get", refuse)
    problem = client.get("/v1/jobs/job_x").json()
    assert (problem["status"], problem["detail"]) == (422, "Two things.")
    assert problem["errors"] == [{"place": "a", "message": "is wrong"}, {"place": "b", "message": "too"}]


def test_a_very_long_list_is_cut(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise Invalid("Many.", [fault(str(i), "x") for i in range(MAX_ERRORS * 2)])

    monkeypatch.setattr(jobs, "get", refuse)
    assert len(client.get("/v1/jobs/job_x").json()["errors"]) == MAX_ERRORS


def test_a_commit_that_fails_is_never_a_202(
    client: TestClient, factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.orm import Session

    def full(_self: Session) -> None:
        raise StorageFull("No room.")

    monkeypatch.setattr(Session, "flush", full)
    answer = client.post("/v1/image-pools", json={"name": "x"})
    assert answer.status_code == 507
