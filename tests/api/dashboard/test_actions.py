"""What a visitor can do: choose colours, cancel and retry; and what another site cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from service import jobs
from service.bootstrap import Factory
from tests.api.dashboard import job_drivers, scenery


@pytest.fixture
def scene(factory: Factory) -> scenery.Scene:
    """Something to make jobs of."""
    return scenery.build(factory, scenery.drawn_pictures(), scenery.CLASSES)


@pytest.fixture
def visitor(factory: Factory) -> Iterator[TestClient]:
    """A browser that does not follow where it is sent."""
    with TestClient(create_app(factory), follow_redirects=False) as client:
        yield client


def test_cancel_and_retry_lead_back_to_the_job(visitor: TestClient, scene: scenery.Scene) -> None:
    job_id = job_drivers.label_job(scene, "mine")
    for verb, state in (("cancel", "cancelled"), ("retry", "running")):
        answer = visitor.post(f"/jobs/{job_id}/{verb}", headers={"sec-fetch-site": "same-origin"})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job_id}")
        with scene.factory.read() as work:
            assert jobs.get(work, job_id).state == state
    assert visitor.post(f"/jobs/{job_id}/retry").status_code == 409


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}])
def test_another_site_cannot_act(visitor: TestClient, scene: scenery.Scene, headers: dict[str, str]) -> None:
    job_id = job_drivers.label_job(scene, "mine")
    assert visitor.post(f"/jobs/{job_id}/cancel", headers=headers).status_code == 403
    assert visitor.post("/theme/dark", headers=headers).status_code == 403
    with scene.factory.read() as work:
        assert jobs.get(work, job_id).state == "queued"


def test_the_theme_is_remembered(visitor: TestClient) -> None:
    assert "data-theme=" not in visitor.get("/").text.partition("<body>")[0]
    answer = visitor.post("/theme/dark", headers={"referer": "http://testserver/jobs?state=failed"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed")
    assert '<html lang="en" data-theme="dark">' in visitor.get("/").text
    assert visitor.post("/theme/pink").status_code == 422


@pytest.mark.parametrize("referer", ["https://evil.example//evil.example/x", "javascript:alert(1)", "//evil.example"])
def test_the_way_back_stays_on_this_site(visitor: TestClient, referer: str) -> None:
    location = visitor.post("/theme/dark", headers={"referer": referer}).headers["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_static_files_are_a_closed_list(visitor: TestClient) -> None:
    for path in (
        "/static/../page.py",
        "/static/%2e%2e/page.py",
        "/static/vendor/README.md",
        "/static/",
        "/static/no.js",
    ):
        assert visitor.get(path).status_code == 404
    answer = visitor.get("/static/dashboard.css")
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]


def test_vendored_files_are_those_that_the_table_names() -> None:
    from hashlib import sha256

    folder = Path(__file__).parents[3] / "api/dashboard/static/vendor"
    table = (folder / "README.md").read_text()
    for file in folder.iterdir():
        if file.suffix in (".js", ".css"):
            assert sha256(file.read_bytes()).hexdigest() in table
