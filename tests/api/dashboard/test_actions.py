"""What a visitor can do: choose colours, cancel and retry; and what another site cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service import jobs
from service.bootstrap import Factory
from service.clock import database_now
from service.purging import purge_in_turn
from service.tables import DatasetExport
from tests.api.dashboard import job_drivers, scenery
from tests.clients import api_client
from tests.service.test_purging import furnish


@pytest.fixture
def scene(factory: Factory) -> scenery.Scene:
    """Something to make jobs of."""
    return scenery.build(factory, scenery.drawn_pictures(), scenery.CLASSES)


@pytest.fixture
def visitor(factory: Factory) -> Iterator[TestClient]:
    """A browser that does not follow where it is sent."""
    with api_client(factory, follow_redirects=False) as client:
        yield client


def test_cancel_and_retry_lead_back_to_the_job(visitor: TestClient, scene: scenery.Scene) -> None:
    job_id = job_drivers.label_job(scene, "mine")
    for verb, state in (("cancel", "cancelled"), ("retry", "running")):
        answer = visitor.post(f"/jobs/{job_id}/{verb}", headers={"sec-fetch-site": "same-origin"})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job_id}")
        with scene.factory.read() as work:
            assert jobs.get(work, job_id).state == state
    assert visitor.post(f"/jobs/{job_id}/retry").status_code == 409


PAGES = {
    "annotation set": "annotation-sets",
    "generator": "generators",
    "dataset": "datasets",
    "student": "students",
    "report": "reports",
    "job": "jobs",
}


@pytest.mark.parametrize("noun", PAGES)
def test_a_thing_is_deleted_after_a_question_and_the_other_pages_go_on(
    visitor: TestClient, factory: Factory, noun: str
) -> None:
    ids = furnish(factory)
    address = f"/{PAGES[noun]}/{ids[noun]}"
    assert f'<form method="post" action="{address}/delete">' in visitor.get(address).text
    answer = visitor.post(f"{address}/delete", headers={"sec-fetch-site": "same-origin"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/{PAGES[noun]}")
    assert ids[noun] not in visitor.get(f"/{PAGES[noun]}").text
    assert visitor.post(f"{address}/delete").status_code == 410
    for purged in (False, True):
        for other, place in PAGES.items():
            shown = visitor.get(f"/{place}/{ids[other]}")
            assert shown.status_code == (410 if other == noun != "dataset" else 200), (other, purged)
            if other != noun and noun != "dataset":
                assert f'href="{address}"' not in shown.text, (other, purged)
        purge_in_turn(factory)


def test_a_deleted_dataset_is_a_card_with_its_students(visitor: TestClient, factory: Factory) -> None:
    ids = furnish(factory)
    address = f"/datasets/{ids['dataset']}"
    visitor.post(f"{address}/delete")
    page = visitor.get(address).text
    assert "This is what is kept of it" in page
    assert f'href="/students/{ids["student"]}"' in page
    assert "/v1/datasets/" not in page
    assert f'href="{address}"' in visitor.get(f"/students/{ids['student']}").text


def test_what_a_job_needs_is_not_deleted_and_the_page_says_why(visitor: TestClient, scene: scenery.Scene) -> None:
    job_id = job_drivers.label_job(scene, "mine")
    answer = visitor.post(f"/annotation-sets/{scene.annotation_set_id}/delete")
    assert answer.status_code == 409
    assert job_id in answer.text


def test_an_expired_export_is_made_again_from_the_page(visitor: TestClient, factory: Factory) -> None:
    ids = furnish(factory)
    address = f"/datasets/{ids['dataset']}"
    assert "/exports/coco" in visitor.get(address).text
    with factory.work() as work:
        work.session.execute(update(DatasetExport).values(expires_at=database_now(-1)))
    page = visitor.get(address).text
    assert "/exports/coco" not in page
    assert f'action="{address}/export"' in page
    answer = visitor.post(f"{address}/export")
    assert answer.status_code == 303
    with factory.read() as work:
        assert jobs.get(work, answer.headers["location"].rpartition("/")[2]).kind == "export"
    assert visitor.get(answer.headers["location"]).status_code == 200


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
