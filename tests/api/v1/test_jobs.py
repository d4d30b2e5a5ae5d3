"""Jobs by REST: 202 with an address, idempotency, cancel, retry, lists."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from service import steps
from service.bootstrap import Factory
from tests import factories


@pytest.fixture
def body(factory: Factory) -> dict[str, Any]:
    """A sound label job."""
    with factory.work() as work:
        set_id = factories.make_annotation_set(work).id
        name = factories.make_generator(work).name
    return {"kind": "label", "annotation_set_id": set_id, "generator": name, "num_images": 600, "stop_after": "dataset"}


def test_a_job_is_202_with_its_address(client: TestClient, body: dict[str, Any]) -> None:
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job["state"] == "queued"
    assert job["created_at"].endswith("Z")
    assert client.get(answer.headers["location"]).json() == job


def test_every_bad_reference_is_listed(client: TestClient) -> None:
    body = {
        "kind": "label",
        "annotation_set_id": "ann_none",
        "generator": "../../etc/passwd",
        "image_pool_id": "pool_none",
        "evaluation_set_id": "ann_none_either",
    }
    answer = client.post("/v1/jobs", json=body)
    assert answer.status_code == 422
    places = {error["place"] for error in answer.json()["errors"]}
    assert places == {"annotation_set_id", "generator", "image_pool_id", "evaluation_set_id"}
    assert client.get("/v1/jobs").json()["items"] == []


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "http://x/y", "user/repo", "file:///x"])
def test_generators_are_names_never_places(client: TestClient, body: dict[str, Any], name: str) -> None:
    assert client.post("/v1/jobs", json={**body, "generator": name}).status_code == 422


def test_an_encoder_draws_no_images_and_adds_no_noise(
    client: TestClient, factory: Factory, body: dict[str, Any]
) -> None:
    with factory.work() as work:
        pool_id = factories.make_pool(work).id
        name = factories.make_generator(work, family="encoder").name
    body = {**body, "generator": name, "image_pool_id": pool_id}
    answer = client.post("/v1/jobs", json={**body, "pools": ["synthesized", "encoded"]})
    assert answer.status_code == 422
    (fault,) = answer.json()["errors"]
    assert fault["place"] == "pools"
    assert "use the pool encoded alone" in fault["message"]
    noisy = client.post("/v1/jobs", json={**body, "pools": ["encoded"], "head": {"tap_timestep": 50}})
    assert [fault["place"] for fault in noisy.json()["errors"]] == ["head.tap_timestep"]
    assert client.post("/v1/jobs", json={**body, "pools": ["encoded"]}).status_code == 202


def test_an_encoder_labels_beside_the_generator(client: TestClient, factory: Factory, body: dict[str, Any]) -> None:
    with factory.work() as work:
        pool_id = factories.make_pool(work).id
        known = {
            name: factories.make_generator(work, name=name, family="encoder", **size)
            for name, size in {
                "any": {"image_height": None, "image_width": None},
                "fitting": {},
                "smaller": {"image_height": 32, "image_width": 32},
            }.items()
        }
        any_id, other = known["any"].id, factories.make_generator(work, name="other").name
    body = {**body, "image_pool_id": pool_id, "pools": ["encoded"]}
    answers = {
        name: client.post("/v1/jobs", json={**body, "encoder": name})
        for name in ("any", "fitting", "smaller", "none", other, body["generator"])
    }
    assert [answers[name].status_code for name in ("any", "fitting")] == [202, 202]
    assert answers["any"].json()["spec"]["encoder"] == any_id
    messages = {name: answer.json()["errors"] for name, answer in answers.items() if answer.status_code == 422}
    assert {name: [fault["place"] for fault in faults] for name, faults in messages.items()} == {
        name: ["encoder"] for name in ("smaller", "none", other, body["generator"])
    }
    assert "32x32" in messages["smaller"][0]["message"]
    assert "no frozen encoder" in messages[other][0]["message"]
    assert client.post("/v1/jobs", json={**body, "generator": "any"}).status_code == 202
    twice = client.post("/v1/jobs", json={**body, "generator": "any", "encoder": "any"}).json()["errors"]
    assert "leave encoder out" in twice[0]["message"]
    students = {**body, "head": {"kind": "student"}, "encoder": "any"}
    del students["generator"]
    assert client.post("/v1/jobs", json=students).status_code == 422


def test_the_same_key_and_body_make_one_job(client: TestClient, body: dict[str, Any]) -> None:
    key = {"idempotency-key": "k1"}
    first = client.post("/v1/jobs", json=body, headers=key)
    again = client.post("/v1/jobs", json=body, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = client.post("/v1/jobs", json={**body, "seed": 5}, headers=key)
    assert other.status_code == 409
    assert other.json()["type"].endswith("idempotency-key-reused")


def test_one_key_sent_by_many_at_once_makes_one_job(client: TestClient, body: dict[str, Any]) -> None:
    def send(_: int) -> tuple[int, str]:
        answer = client.post("/v1/jobs", json=body, headers={"idempotency-key": "same"})
        return answer.status_code, answer.json()["id"]

    with ThreadPoolExecutor(8) as threads:
        answers = set(threads.map(send, range(16)))
    assert len(answers) == 1
    assert len(client.get("/v1/jobs").json()["items"]) == 1


@pytest.mark.parametrize("key", ["", "x" * 201])
def test_bad_keys_are_422(client: TestClient, body: dict[str, Any], key: str) -> None:
    assert client.post("/v1/jobs", json=body, headers={"idempotency-key": key}).status_code == 422


def test_cancel_then_retry(client: TestClient, body: dict[str, Any]) -> None:
    job_id = client.post("/v1/jobs", json=body).json()["id"]
    assert client.post(f"/v1/jobs/{job_id}:retry").status_code == 409
    assert client.post(f"/v1/jobs/{job_id}:cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{job_id}:cancel").status_code == 200
    assert client.post(f"/v1/jobs/{job_id}:retry").json()["state"] == "running"


def test_a_job_that_ended_cannot_be_cancelled(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    step = factories.must_claim(factory)
    with factory.work() as work:
        steps.record_failure(work, step.id, step.token, {"title": "broken"}, retryable=False)
    failed = client.get(f"/v1/jobs/{job.id}").json()
    assert failed["state"] == "failed"
    assert failed["error"]["title"] == "broken"
    assert client.post(f"/v1/jobs/{job.id}:cancel").status_code == 409


def test_lists_by_state_and_kind(client: TestClient, body: dict[str, Any]) -> None:
    made = [client.post("/v1/jobs", json=body).json()["id"] for _ in range(3)]
    client.post(f"/v1/jobs/{made[0]}:cancel")
    assert [item["id"] for item in client.get("/v1/jobs?state=queued").json()["items"]] == made[:0:-1]
    assert [item["id"] for item in client.get("/v1/jobs?state=cancelled").json()["items"]] == made[:1]
    assert client.get("/v1/jobs?kind=train_generator").json()["items"] == []
