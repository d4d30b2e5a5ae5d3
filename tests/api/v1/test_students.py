"""Students by REST."""

from __future__ import annotations

from fastapi.testclient import TestClient

from service import datasets, students
from service.bootstrap import Factory
from tests import factories


def test_shown_listed_and_downloaded(client: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    with factory.work() as work:
        dataset = datasets.open_for_job(work, work.session.merge(job))
        row = students.record(work, job.id, factories.new_student(dataset.id))
    shown = client.get(f"/v1/students/{row.id}").json()
    assert shown["files"] == [{"name": "config.json", "num_bytes": 2, "sha256": "0" * 64}]
    assert "key" not in shown["files"][0]
    assert client.get("/v1/students").json()["items"] == [shown]
    assert client.get(f"/v1/students/{row.id}/archive").status_code == 404
    factory.storage.put_stream(str(row.archive_key), [b"zip"])
    answer = client.get(f"/v1/students/{row.id}/archive")
    assert (answer.content, answer.headers["content-type"]) == (b"zip", "application/zip")
    assert client.get("/v1/students/stu_none").status_code == 404
