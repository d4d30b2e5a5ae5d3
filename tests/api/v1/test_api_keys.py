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
        {"workspace_id": "ws_00000000000000000000000000"},
    ],
)
def test_a_key_that_makes_no_sense_is_422(client: TestClient, change: dict[str, Any]) -> None:
    assert client.post("/v1/api-keys", json={"name": "x", "scope": "read", **change}).status_code == 422
    assert len(client.get("/v1/api-keys").json()["items"]) == 1


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
