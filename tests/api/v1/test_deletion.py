"""DELETE on every noun, and what its readers are told afterwards."""

from __future__ import annotations

import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service import datasets, jobs
from service.bootstrap import Factory
from service.clock import database_now
from service.purging import purge_in_turn
from service.tables import DatasetExport
from tests.service.test_purging import furnish

PATHS = {
    "annotation set": "annotation-sets",
    "image pool": "image-pools",
    "generator": "generators",
    "dataset": "datasets",
    "student": "students",
    "report": "reports",
    "job": "jobs",
}
BELOW = {
    "annotation set": ["images/0.png"],
    "image pool": [],
    "generator": ["samples.png", "archive"],
    "dataset": ["images", "images/0.png", "manifest", "exports", "exports/coco", "shards", "shards/0"],
    "student": ["files/config.json", "archive"],
    "report": ["images.png"],
    "job": ["steps", "events", "samples/1.png"],
}
"""What can be read below each."""


@pytest.fixture
def ids(factory: Factory) -> dict[str, str]:
    """One of everything."""
    return furnish(factory)


@pytest.mark.parametrize("noun", PATHS)
def test_deleted_is_204_then_410_and_unknown_404(
    client: TestClient, factory: Factory, ids: dict[str, str], noun: str
) -> None:
    collection = f"/v1/{PATHS[noun]}"
    address = f"{collection}/{ids[noun]}"
    answer = client.delete(address)
    assert (answer.status_code, answer.content) == (204, b"")
    for purged in (False, True):
        gone = [client.delete(address), *(client.get(f"{address}/{below}") for below in BELOW[noun])]
        if noun != "dataset":
            gone.append(client.get(address))
        assert [answer.status_code for answer in gone] == [410] * len(gone), purged
        for answer in gone:
            problem = answer.json()
            assert problem["type"] == "urn:label-factory:problem:gone"
            assert ids[noun] in problem["detail"]
        assert client.get(collection).json()["items"] == []
        purge_in_turn(factory)
    unknown = client.delete(f"{collection}/{ids[noun][:-8]}00000000")
    assert unknown.status_code == 404


def test_a_deleted_dataset_shows_its_card(client: TestClient, factory: Factory, ids: dict[str, str]) -> None:
    with factory.work() as work:
        datasets.get(work, ids["dataset"]).card = {"generator": {"name": "portraits", "licence": "CC BY 4.0"}}
    assert client.get(f"/v1/datasets/{ids['dataset']}").json()["deleted_at"] is None
    client.delete(f"/v1/datasets/{ids['dataset']}")
    purge_in_turn(factory)
    shown = client.get(f"/v1/datasets/{ids['dataset']}").json()
    assert shown["deleted_at"].endswith("Z")
    assert shown["card"]["generator"]["name"] == "portraits"
    assert client.get(f"/v1/students/{ids['student']}").json()["dataset_id"] == ids["dataset"]


def test_a_job_is_deleted_only_when_it_has_ended(client: TestClient, factory: Factory, ids: dict[str, str]) -> None:
    """Input 62: what is done cannot be cancelled and can be deleted, what goes on the other way round."""
    assert client.post(f"/v1/jobs/{ids['job']}:cancel").status_code == 409
    assert client.post(f"/v1/jobs/{ids['job']}:retry").status_code == 409
    again = client.post("/v1/jobs", json={"kind": "export", "dataset_id": ids["dataset"]}).json()
    for address in (f"/v1/jobs/{again['id']}", f"/v1/datasets/{ids['dataset']}"):
        answer = client.delete(address)
        assert answer.status_code == 409
        assert again["id"] in answer.json()["detail"]
        assert client.get(address).status_code == 200
    client.post(f"/v1/jobs/{again['id']}:cancel")
    assert client.delete(f"/v1/jobs/{again['id']}").status_code == 204
    for verb in ("cancel", "retry"):
        assert client.post(f"/v1/jobs/{again['id']}:{verb}").status_code == 410
    assert client.delete(f"/v1/datasets/{ids['dataset']}").status_code == 204


def test_a_download_that_is_not_ready_has_expired_or_ends_before_the_range(
    client: TestClient, factory: Factory, ids: dict[str, str]
) -> None:
    """Input 62: 404 for what was never written, 410 for what was, 416 past the end."""
    coco = f"/v1/datasets/{ids['dataset']}/exports/coco"
    assert client.get(coco, headers={"range": "bytes=1-"}).status_code == 416
    assert client.get(coco).status_code == 200
    with factory.work() as work:
        work.session.execute(update(DatasetExport).values(expires_at=database_now(-1)))
    for _ in range(2):
        answer = client.get(coco, headers={"range": "bytes=0-"})
        assert answer.status_code == 410
        assert f'{{"kind": "export", "dataset_id": "{ids["dataset"]}"}}' in answer.json()["detail"]
        (listed,) = client.get(f"/v1/datasets/{ids['dataset']}/exports").json()["items"]
        assert listed["expires_at"] < listed["created_at"]
        purge_in_turn(factory)
    with factory.work() as work:
        work.session.delete(datasets.get_export(work, ids["dataset"], "coco"))
    assert client.get(coco).status_code == 404


def test_a_whole_answer_never_has_a_part_of_a_file(client: TestClient, factory: Factory, ids: dict[str, str]) -> None:
    """Deleted and purged while it streams: whoever began reads on to the end, whoever comes later is told."""
    address = f"/v1/datasets/{ids['dataset']}/shards/0"
    content = bytes(range(256)) * 40_000
    with factory.read() as work:
        key = datasets.get_shard(work, ids["dataset"], 0).key
    factory.storage.put_stream(key, io.BytesIO(content))
    with client.stream("GET", address) as answer:
        chunks = answer.iter_bytes(1 << 16)
        begin = next(chunks)
        client.delete(f"/v1/datasets/{ids['dataset']}")
        purge_in_turn(factory)
        assert begin + b"".join(chunks) == content
    etag = answer.headers["etag"]
    assert client.get(address, headers={"range": "bytes=100-", "if-range": etag}).status_code == 410


def test_an_export_that_was_made_again_is_not_resumed_from_the_old_one(
    client: TestClient, factory: Factory, ids: dict[str, str]
) -> None:
    coco = f"/v1/datasets/{ids['dataset']}/exports/coco"
    etag = client.get(coco).headers["etag"]
    new: Any = datasets.NewExport("coco", f"datasets/{ids['dataset']}/exports/coco-99.zip", "1" * 64, 3, {})
    factory.storage.put_stream(new.key, [b"new"])
    with factory.work() as work:
        datasets.record_export(work, ids["dataset"], new)
    answer = client.get(coco, headers={"range": "bytes=1-", "if-range": etag})
    assert (answer.status_code, answer.content) == (200, b"new")


def test_a_stream_of_events_ends_with_its_job(client: TestClient, factory: Factory, ids: dict[str, str]) -> None:
    with factory.read() as work:
        assert jobs.get(work, ids["job"]).state == "succeeded"
    client.delete(f"/v1/jobs/{ids['job']}")
    assert client.get(f"/v1/jobs/{ids['job']}/events").status_code == 410
