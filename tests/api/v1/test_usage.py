"""What is stored and the limits, and what is answered at them."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from service.bootstrap import Factory
from tests.clients import api_client
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
