"""Reports by REST."""

from __future__ import annotations

from fastapi.testclient import TestClient

from service import reports
from service.bootstrap import Factory
from tests import factories


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
