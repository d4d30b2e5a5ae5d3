"""Reports by REST."""

from __future__ import annotations

from fastapi.testclient import TestClient

from service import object_keys, reports
from service.bootstrap import Factory
from tests import factories
from tests.api.archives import photo


def test_shown_and_listed(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    content = {"student": {"mean_iou": 0.6, "classes": [0.5, None]}}
    with factory.work() as work:
        row = reports.record(work, job.id, content)
    shown = client.get(f"/v1/reports/{row.id}").json()
    assert shown["content"] == content
    assert shown["student_id"] is None
    assert client.get("/v1/reports").json()["items"] == [shown]
    assert client.get("/v1/reports?student_id=stu_other").json()["items"] == []
    assert client.get("/v1/reports/rep_none").status_code == 404


def test_the_picture_of_the_worst_and_best_images(client: TestClient, factory: Factory) -> None:
    with_picture, without = (factories.make_job(factory) for _ in range(2))
    key = object_keys.step_file("step_x", 1, "extremes.png")
    content = {"images": [{"index": 3, "miou": 0.2}], "sheet": {"key": key, "images": [3]}}
    with factory.work() as work:
        work.storage.put_stream(key, [photo()])
        known = reports.record(work, with_picture.id, content)
        older = reports.record(work, without.id, {"rows": []})
    answer = client.get(f"/v1/reports/{known.id}/images.png")
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "image/png", photo())
    assert client.get(f"/v1/reports/{older.id}/images.png").status_code == 404
    assert client.get("/v1/reports/rep_none/images.png").status_code == 404
