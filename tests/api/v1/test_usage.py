"""What is stored and the limits, and what is answered at them."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from service.bootstrap import Factory
from tests.clients import api_client, with_key
from tests.path.journey import ZIP, annotated_zip
from tests.service.test_purging import furnish
from tests.service.test_usage import limited


def test_usage_stands_beside_the_limits(client: TestClient, factory: Factory) -> None:
    furnish(factory)
    found = client.get("/v1/usage").json()
    assert found["total_bytes"] == sum(found["num_bytes"].values()) == 26
    assert (found["max_bytes"], found["num_active_jobs"], found["max_active_jobs"]) == (None, 0, 1_000)
    page = client.get("/").text
    assert "Their exports" in page
    assert "26 B" in page


def test_a_keys_own_limits_are_held_and_told(client: TestClient, factory: Factory) -> None:
    wish = {"kind": "export", "dataset_id": furnish(factory)["dataset"]}
    body = {"name": "nightly", "scope": "write", "max_active_jobs": 1}
    made = client.post("/v1/api-keys", json=body).json()
    with with_key(factory, made["key"]) as limited_client:
        assert limited_client.post("/v1/jobs", json=wish).status_code == 202
        refused = limited_client.post("/v1/jobs", json=wish)
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:label-factory:problem:quota")
        assert refused.json()["detail"].startswith("The key nightly has 1 job going on, and 1 may")
        assert client.post("/v1/jobs", json=wish).status_code == 202
        assert "1 of 1 at a time" in limited_client.get("/").text
        pool = limited_client.post("/v1/image-pools", json={"name": "open"}).json()
        zip_of = {"content": annotated_zip(range(3)), "headers": ZIP}
        assert limited_client.post("/v1/annotation-sets?name=few", **zip_of).status_code == 201
        client.patch(f"/v1/api-keys/{made['id']}", json={"max_stored_bytes": 1})
        for path in ("/v1/annotation-sets?name=more", f"/v1/image-pools/{pool['id']}/images"):
            refused = limited_client.post(path, **zip_of)
            assert (refused.status_code, refused.json()["type"]) == (413, "urn:label-factory:problem:storage-quota")
            assert "The key nightly has" in refused.json()["detail"]
        found = limited_client.get("/v1/usage").json()
        page = limited_client.get("/").text
    assert found["num_active_jobs"] == 2
    key = found["key"]
    assert (key["id"], key["name"]) == (made["id"], "nightly")
    assert (key["num_active_jobs"], key["max_active_jobs"], key["max_bytes"]) == (1, 1, 1)
    assert key["total_bytes"] == key["num_bytes"]["annotation_sets"] > 0
    assert found["total_bytes"] == 26 + key["total_bytes"]
    assert "Your key's quota is used up" in page
    assert "Your key" not in client.get("/").text


@pytest.mark.parametrize(("limits", "status"), [({"max_stored_bytes": 1}, 413), ({"max_active_jobs": 1}, 429)])
def test_what_exceeds_a_quota_is_refused_with_its_numbers(
    factory: Factory, limits: dict[str, int], status: int
) -> None:
    furnished = furnish(factory)
    made = limited(factory, **limits)
    wish = {"kind": "export", "dataset_id": furnished["dataset"]}
    with api_client(made, raise_server_exceptions=True) as client:
        if status == 413:
            answers = [
                client.post("/v1/annotation-sets?name=few", content=annotated_zip(range(3)), headers=ZIP),
                client.post("/v1/jobs", json=wish),
            ]
            assert "used up" in client.get("/").text
            assert len(client.get("/v1/annotation-sets").json()["items"]) == 1
        else:
            assert client.post("/v1/jobs", json=wish).status_code == 202
            answers = [client.post("/v1/jobs", json=wish)]
        for answer in answers:
            assert answer.status_code == status, answer.text
            assert str(next(iter(limits.values()))) in answer.json()["detail"]
