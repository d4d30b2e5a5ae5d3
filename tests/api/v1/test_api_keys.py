"""Keys and workspaces by REST."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from service.bootstrap import Factory
from tests.clients import with_key


def test_a_key_is_told_once_and_works(client: TestClient, factory: Factory) -> None:
    answer = client.post("/v1/api-keys", json={"name": "nightly", "scope": "write", "days": 90})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    assert answer.headers["location"] == f"/v1/api-keys/{made['id']}"
    shown = client.get(f"/v1/api-keys/{made['id']}").json()
    assert "key" not in shown
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert made["key"] not in client.get("/v1/api-keys").text
    with with_key(factory, made["key"]) as other:
        assert other.get("/v1/caller").json() == {
            "workspace": client.get("/v1/caller").json()["workspace"],
            "key_id": made["id"],
            "key_name": "nightly",
            "scope": "write",
        }


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "root"},
        {"scope": "Admin"},
        {"name": ""},
        {"name": "a\nb"},
        {"name": 7},
        {"days": 0},
        {"days": 3651},
        {"days": "7"},
        {"days": True},
        {"max_stored_bytes": 0},
        {"max_stored_bytes": 1e9},
        {"max_stored_bytes": 2**63},
        {"max_active_jobs": True},
        {"max_active_jobs": "3"},
        {"max_active_jobs": 10**6 + 1},
        {"workspace_id": "ws_00000000000000000000000000"},
    ],
)
def test_a_key_that_makes_no_sense_is_422(client: TestClient, change: dict[str, Any]) -> None:
    assert client.post("/v1/api-keys", json={"name": "x", "scope": "read", **change}).status_code == 422
    assert len(client.get("/v1/api-keys").json()["items"]) == 1


def test_a_key_is_changed_by_what_is_sent(client: TestClient) -> None:
    body = {"name": "nightly", "scope": "write", "max_stored_bytes": 5_000_000_000}
    made = client.post("/v1/api-keys", json=body).json()
    assert (made["max_stored_bytes"], made["max_active_jobs"]) == (5_000_000_000, None)
    path = f"/v1/api-keys/{made['id']}"
    for body, after in (
        ({}, ("nightly", 5_000_000_000, None)),
        ({"max_active_jobs": 2}, ("nightly", 5_000_000_000, 2)),
        ({"name": "daily", "max_stored_bytes": None}, ("daily", None, 2)),
    ):
        answer = client.patch(path, json=body)
        assert answer.status_code == 200, answer.text
        shown = client.get(path).json()
        assert answer.json() == shown
        assert (shown["name"], shown["max_stored_bytes"], shown["max_active_jobs"]) == after
    for wrong in ({"scope": "admin"}, {"name": ""}, {"max_active_jobs": 0}, {"max_stored_bytes": 10**15 + 1}):
        assert client.patch(path, json=wrong).status_code == 422
    assert client.get(path).json() == shown
    client.post(f"{path}:revoke")
    assert client.patch(path, json={"max_active_jobs": 1}).status_code == 409
    assert "update_api_key" in {row["operation"] for row in client.get("/v1/audit-entries").json()["items"]}


def test_rotation_and_its_overlap(client: TestClient, factory: Factory) -> None:
    made = client.post("/v1/api-keys", json={"name": "nightly", "scope": "read"}).json()
    second = client.post(f"/v1/api-keys/{made['id']}:rotate", json={"overlap_seconds": 3600}).json()
    assert second["former_until"] is not None
    for key in (made["key"], second["key"]):
        with with_key(factory, key) as other:
            assert other.get("/v1/jobs").status_code == 200
    third = client.post(f"/v1/api-keys/{made['id']}:rotate", json={}).json()
    for key, status in ((made["key"], 401), (second["key"], 401), (third["key"], 200)):
        with with_key(factory, key) as other:
            assert other.get("/v1/jobs").status_code == status
    for seconds in (-1, 604_801, "1"):
        path = f"/v1/api-keys/{made['id']}:rotate"
        assert client.post(path, json={"overlap_seconds": seconds}).status_code == 422


def test_nobody_locks_a_workspace(client: TestClient) -> None:
    (mine,) = client.get("/v1/api-keys").json()["items"]
    answer = client.post(f"/v1/api-keys/{mine['id']}:revoke")
    assert answer.status_code == 409
    assert "only admin key" in answer.json()["detail"]


def test_the_operator_makes_workspaces(client: TestClient, factory: Factory) -> None:
    made = client.post("/v1/workspaces", json={"name": "pathology"}).json()
    assert client.post("/v1/workspaces", json={"name": "pathology"}).status_code == 409
    assert {row["name"] for row in client.get("/v1/workspaces").json()["items"]} == {"default", "pathology"}
    client.post("/v1/image-pools", json={"name": "mine"})
    with with_key(factory, made["first_key"]["key"]) as other:
        assert other.get("/v1/caller").json()["workspace"]["id"] == made["id"]
        assert other.get("/v1/image-pools").json()["items"] == []
        assert other.post("/v1/image-pools", json={"name": "theirs"}).status_code == 201
    assert [row["name"] for row in client.get("/v1/image-pools").json()["items"]] == ["mine"]
    entries = client.get("/v1/audit-entries").json()["items"]
    assert [(row["operation"], row["object_id"]) for row in entries if row["operation"] == "create_workspace"] == [
        ("create_workspace", None),  # the name that was taken
        ("create_workspace", made["id"]),
    ]
