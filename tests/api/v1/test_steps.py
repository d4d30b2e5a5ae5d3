"""Steps by REST: in the order they were made, page by page."""

from __future__ import annotations

from fastapi.testclient import TestClient

from service import steps
from service.bootstrap import Factory
from service.steps import Progress
from tests import factories


def test_steps_of_a_job_page_by_page(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    factories.succeed(factory, factories.must_claim(factory))
    whole = client.get(f"/v1/jobs/{job.id}/steps").json()
    kinds = [item["kind"] for item in whole["items"]]
    assert kinds[0] == "fit_head"
    assert set(kinds[1:]) == {"label_shard"}
    assert whole["next_cursor"] is None
    first = client.get(f"/v1/jobs/{job.id}/steps?limit=2").json()
    rest = client.get(f"/v1/jobs/{job.id}/steps?cursor={first['next_cursor']}").json()
    assert first["items"] + rest["items"] == whole["items"]


def test_a_step_shows_its_progress(client: TestClient, factory: Factory) -> None:
    factories.make_job(factory)
    step = factories.must_claim(factory)
    with factory.work() as work:
        steps.heartbeat(work, step.id, step.token, progress=Progress(3, 10, "epochs", metrics={"loss": 0.5}))
    shown = client.get(f"/v1/steps/{step.id}").json()
    assert (shown["state"], shown["attempt"], shown["owner"]) == ("running", 1, "worker-1")
    assert shown["progress"]["done"] == 3
    assert shown["progress"]["metrics"] == {"loss": 0.5}


def test_unknown_ones_are_404(client: TestClient) -> None:
    assert client.get("/v1/steps/step_none").status_code == 404
    assert client.get("/v1/jobs/job_none/steps").status_code == 404


def test_a_cursor_of_another_list_is_400(client: TestClient, factory: Factory) -> None:
    with factory.work() as work:
        for _ in range(2):
            factories.make_generator(work)
    cursor = client.get("/v1/generators?limit=1").json()["next_cursor"]
    job = factories.make_job(factory)
    assert client.get(f"/v1/jobs/{job.id}/steps?cursor={cursor}").status_code == 400
