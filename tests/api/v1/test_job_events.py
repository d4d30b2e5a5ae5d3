"""Server-sent events: ids, resuming, the end, and no transaction while waiting."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.v1 import job_events
from service import events, jobs
from service.bootstrap import Factory
from tests import factories
from tests.api.archives import photo


@dataclass
class Sent:
    """One event as a browser sees it."""

    id: int
    event: str
    data: dict[str, Any] = field(default_factory=dict)


def parsed(text: str) -> list[Sent]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "data" in fields:
            found.append(Sent(int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


@pytest.fixture
def ended_job(factory: Factory) -> str:
    """A job that was cancelled at once."""
    job = factories.make_job(factory)
    with factory.work() as work:
        jobs.cancel(work, job.id)
    return job.id


def test_an_ended_jobs_stream_is_whole_and_ends(client: TestClient, factory: Factory, ended_job: str) -> None:
    answer = client.get(f"/v1/jobs/{ended_job}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    sent = parsed(answer.text)
    assert [item.event for item in sent] == factories.event_types(factory, ended_job)
    assert [item.id for item in sent] == sorted({item.id for item in sent})
    assert sent[-1].event == "job.state"
    assert sent[-1].data["data"]["state"] == "cancelled"
    assert sent[-1].data["created_at"].endswith("Z")


def test_last_event_id_resumes_after_it(client: TestClient, ended_job: str) -> None:
    whole = parsed(client.get(f"/v1/jobs/{ended_job}/events").text)
    headers = {"last-event-id": str(whole[0].id)}
    assert parsed(client.get(f"/v1/jobs/{ended_job}/events?after=0", headers=headers).text) == whole[1:]
    assert parsed(client.get(f"/v1/jobs/{ended_job}/events?after={whole[0].id}").text) == whole[1:]
    assert parsed(client.get(f"/v1/jobs/{ended_job}/events?after={whole[-1].id}").text) == []


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 19, "1;2"])
def test_a_strange_last_event_id_is_422(client: TestClient, ended_job: str, last: str) -> None:
    assert client.get(f"/v1/jobs/{ended_job}/events", headers={"last-event-id": last}).status_code == 422


def test_an_unknown_job_is_404_not_an_empty_stream(client: TestClient) -> None:
    assert client.get("/v1/jobs/job_none/events").status_code == 404


def test_many_events_come_in_batches(client: TestClient, factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_events, "BATCH", 3)
    job = factories.make_job(factory)
    with factory.work() as work:
        for number in range(7):
            events.log(work, job.id, None, f"line {number}")
        jobs.cancel(work, job.id)
    sent = parsed(client.get(f"/v1/jobs/{job.id}/events").text)
    assert [item.data["data"]["message"] for item in sent if item.event == "log"] == [f"line {i}" for i in range(7)]


def test_events_arrive_as_they_happen_and_no_transaction_waits(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    held: list[int] = []

    def act() -> None:
        time.sleep(0.7)
        held.append(factory.engine.pool.checkedout())
        with factory.work() as work:
            events.log(work, job.id, None, "late")
        time.sleep(0.7)
        with factory.work() as work:
            jobs.cancel(work, job.id)

    actor = threading.Thread(target=act)
    actor.start()
    sent = parsed(client.get(f"/v1/jobs/{job.id}/events").text)
    actor.join()
    assert held == [0]
    assert "late" in [item.data["data"].get("message") for item in sent]
    assert sent[-1].data["data"]["state"] == "cancelled"


def test_the_picture_of_a_sample(client: TestClient, factory: Factory) -> None:
    job, other = factories.make_job(factory), factories.make_job(factory)
    step = factories.must_claim(factory)
    key = f"steps/{step.id}/1-samples.png"
    factory.storage.put_stream(key, io.BytesIO(photo()))
    with factory.work() as work:
        events.sample(work, job.id, step.id, key, caption="samples")
        events.log(work, job.id, None, "no picture")
    with factory.read() as work:
        sample, log = events.after(work, job.id, limit=1000)[-2:]
    answer = client.get(f"/v1/jobs/{job.id}/samples/{sample.id}.png")
    assert (answer.status_code, answer.content) == (200, photo())
    assert client.get(f"/v1/jobs/{other.id}/samples/{sample.id}.png").status_code == 404
    assert client.get(f"/v1/jobs/{job.id}/samples/{log.id}.png").status_code == 404
    assert client.get(f"/v1/jobs/{job.id}/samples/999999.png").status_code == 404
