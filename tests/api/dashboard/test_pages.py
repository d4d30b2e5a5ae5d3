"""Every page in every state: it answers, it escapes, it runs no script of its own, its links lead somewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient

from service import jobs
from tests.api.dashboard.conftest import Furnished
from tests.api.dashboard.scenery import HOSTILE

LISTS = ["/", "/jobs", "/generators", "/annotation-sets", "/datasets", "/students", "/reports", "/webhooks", "/docs"]
KINDS = ["train_student", "distill", "evaluate a student", "evaluate a head"]
"""Finished jobs of the other kinds."""
STATES = ["succeeded", *KINDS, "training", "failed", "cancelled", "labelling", "cancelling", "queued"]


class Page(HTMLParser):
    """What a page refers to, and what its policy would refuse."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.files: set[str] = set()
        self.refused: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "style" or "style" in found or any(name.startswith(("on", "hx-on")) for name in found):
            self.refused.append(f"<{tag} {found}>")
        if tag == "script" and not found.get("src", "").startswith("/static/"):
            self.refused.append("an inline script")
        if tag == "a":
            self.links.add(found.get("href", ""))
        if tag in ("img", "script", "link"):
            self.files.add(found.get("src") or found.get("href") or "")
        if "id" in found:
            self.ids.append(found["id"])


def every_page(furnished: Furnished) -> list[str]:
    """Addresses of all pages."""
    dataset = f"/datasets/{furnished.result('dataset_id')}"
    return [
        *LISTS,
        *(f"/jobs/{furnished.jobs[state]}" for state in STATES),
        *(f"/jobs/{furnished.jobs[state]}/live" for state in STATES),
        "/jobs?state=running&kind=label",
        f"/generators/{furnished.scene.generator_id}",
        f"/generators/{furnished.scene.encoder_id}",
        f"/generators/{furnished.scene.gan_id}",
        f"/annotation-sets/{furnished.scene.annotation_set_id}",
        dataset,
        f"{dataset}?sort=uncertainty&show=dropped",
        f"{dataset}?sort=certainty&show=kept&limit=2",
        f"{dataset}/images/3",
        *(f"/students/{student_id}" for student_id in furnished.results("student_id")),
        *(f"/reports/{report_id}" for report_id in furnished.results("report_id")),
    ]


@pytest.mark.parametrize("path", LISTS)
def test_an_empty_factory_says_what_to_do_next(empty_client: TestClient, path: str) -> None:
    answer = empty_client.get(path)
    assert answer.status_code == 200
    assert path == "/docs" or "label-factory" in answer.text


def test_every_page_answers_escapes_and_keeps_its_policy(furnished: Furnished) -> None:
    for path in every_page(furnished):
        answer = furnished.client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith("text/html")
        assert "script-src 'self'; style-src 'self'" in answer.headers["content-security-policy"]
        assert HOSTILE not in answer.text, path
        page = Page(answer.text)
        assert page.refused == [], path
        assert len(page.ids) == len(set(page.ids)), path


def test_an_encoder_is_offered_for_the_encoded_pool(furnished: Furnished) -> None:
    encoder, generator = (
        furnished.client.get(f"/generators/{id}").text
        for id in (furnished.scene.encoder_id, furnished.scene.generator_id)
    )
    assert "Frozen encoder" in encoder
    assert "An encoder draws no images" in encoder
    assert '"pools": ["encoded"]' in encoder
    assert '"pools": ["encoded"]' not in generator


def test_a_gan_is_offered_with_an_encoder_beside_it(furnished: Furnished) -> None:
    gan = furnished.client.get(f"/generators/{furnished.scene.gan_id}").text
    assert "name a frozen encoder beside it" in gan
    assert "no sample sheet" in gan
    assert "&#34;encoder&#34;: " in gan or '"encoder": ' in gan
    assert "encoder" not in furnished.client.get(f"/generators/{furnished.scene.generator_id}").text.split("Use it")[1]


def test_a_generator_trained_here_shows_how_it_went(furnished: Furnished) -> None:
    job_id = furnished.jobs["training"]
    page = furnished.client.get(f"/generators/{furnished.result('generator_id', 'training')}").text
    assert f'data-curves="/jobs/{job_id}/curves.json"' in page
    assert "curves.js" in page
    assert "data-curves" not in furnished.client.get(f"/generators/{furnished.scene.generator_id}").text


def test_hostile_names_are_shown_as_they_are(furnished: Furnished) -> None:
    escaped = "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;"
    for path in every_page(furnished):
        if path.startswith(("/datasets/", "/reports/", "/annotation-sets/", "/students/", "/generators/")):
            assert escaped in furnished.client.get(path).text, path


def test_every_link_and_file_of_every_page_is_there(furnished: Furnished) -> None:
    found: set[str] = set()
    for path in every_page(furnished):
        page = Page(furnished.client.get(path).text)
        found |= {
            path.partition("?")[0] + address if address.startswith("?") else address
            for address in page.links | page.files
            if address and not address.startswith("#")
        }
    assert len(found) > 60
    for address in sorted(found):
        answer = furnished.client.get(address)
        assert answer.status_code == 200, (address, answer.text[:300])


def test_an_unknown_thing_is_a_page_too(furnished: Furnished) -> None:
    for path in ("/jobs/nope", "/datasets/nope", "/students/<b>nope", "/reports/nope", "/generators/nope"):
        answer = furnished.client.get(path)
        assert answer.status_code == 404
        assert "<h1>Not found</h1>" in answer.text
        assert "<b>nope" not in answer.text
    assert furnished.client.get("/jobs?state=happy").status_code == 422
    assert furnished.client.get("/jobs?cursor=!").status_code == 400
    assert furnished.client.get("/annotation-sets/x?page=-1").status_code == 422


def test_a_job_of_another_release_still_has_a_page(furnished: Furnished) -> None:
    with furnished.factory.work() as work:
        job = jobs.get(work, furnished.jobs["failed"])
        before, job.spec = job.spec, {**job.spec, "wings": 2}
    try:
        text = furnished.client.get(f"/jobs/{job.id}").text
        assert "wings: Extra inputs are not permitted" in text
        assert furnished.client.get(f"/jobs/{job.id}/curves.json").status_code == 200
        assert furnished.client.post(f"/v1/jobs/{job.id}:retry").status_code == 409
    finally:
        with furnished.factory.work() as work:
            jobs.get(work, job.id).spec = before


def test_a_failed_job_says_why_and_what_to_do(furnished: Furnished) -> None:
    text = furnished.client.get(f"/jobs/{furnished.jobs['failed']}").text
    assert "The disk of the object store is full." in text
    assert "Free space on the disk, then retry" in text
    assert "/retry" in text


def test_a_student_without_a_dataset_says_so(furnished: Furnished) -> None:
    student = furnished.client.get(f"/students/{furnished.result('student_id', 'train_student')}").text
    assert "trained on the few labels alone" in student
    assert ">Dataset</a>" not in student
    report = furnished.client.get(f"/reports/{furnished.result('report_id', 'train_student')}").text
    assert ">Dataset</a>" not in report
    assert ">Student</a>" in report
    assert '<th scope="col" class="num">Student</th></tr>' in report, "one column only"
    job = furnished.client.get(f"/jobs/{furnished.jobs['train_student']}").text
    assert "Train the student" in job
    assert "2 of 2 done" in job


def test_the_worst_and_best_images_stand_on_the_pages_of_report_and_student(furnished: Furnished) -> None:
    report, student = (furnished.result(name, "train_student") for name in ("report_id", "student_id"))
    for path in (f"/reports/{report}", f"/students/{student}"):
        page = furnished.client.get(path).text
        assert f'src="/v1/reports/{report}/images.png"' in page
        assert re.findall(r"<span>image (\d+)<b>([^<]+)</b>", page) == [("17", "0.213"), ("112", "0.948")]
    older = furnished.client.get(f"/reports/{furnished.result('report_id', 'evaluate a head')}")
    assert older.status_code == 200
    assert "Worst and best" not in older.text


def test_a_report_draws_what_blocks_know_and_what_filtering_is_worth(furnished: Furnished) -> None:
    for name in ("succeeded", "evaluate a head"):
        page = furnished.client.get(f"/reports/{furnished.result('report_id', name)}").text
        rows = re.findall(r'<tr><th scope="row">t = (\d+)</th>(.*?)</tr>', page)
        assert [int(timestep) for timestep, _ in rows] == [10, 50, 120, 250, 400, 600]
        assert ['read"' in cells for _, cells in rows] == [False, True, True, True, False, False]
        assert '<td class="h10">37</td>' in rows[4][1], "the best cell is the darkest"
        assert "filter.ignore_pixel_share" in page
        lines = re.findall(r'<polyline points="([^"]+)"', page)
        assert [len(points.split()) for points in lines] == [9, 11], "a missing value ends a line"
        places = [float(point.split(",")[1]) for point in lines[1].split()]
        assert places == sorted(places, reverse=True), "what is better is higher"
        assert page.count("<circle cx=") >= 2
    other = furnished.client.get(f"/reports/{furnished.result('report_id', 'train_student')}").text
    assert "What filtering is worth" not in other
    assert "What each block of" not in other


def test_a_report_says_which_timesteps_were_tried(furnished: Furnished) -> None:
    page = furnished.client.get(f"/reports/{furnished.result('report_id')}").text
    table = page.partition("How the head was chosen")[2].partition("</table>")[0]
    assert re.findall(r'<th scope="col" class="num">([^<]+)<', table) == ["tap timesteps", "mIoU"]
    cells = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2])
    assert [re.findall(r">([^<]+)</td>", row) for row in cells] == [
        ["50, 120", "0.575"],
        ["50", "0.575"],
        ["120", "0.540"],
    ]


def test_jobs_of_other_kinds_link_to_what_they_begin_with(furnished: Furnished) -> None:
    dataset, student = (f'href="/{noun}/{furnished.result(name)}"' for noun, name in
                        (("datasets", "dataset_id"), ("students", "student_id")))  # fmt: skip
    wanted = {"distill": dataset, "evaluate a student": student, "evaluate a head": dataset}
    for kind, link in wanted.items():
        job = furnished.client.get(f"/jobs/{furnished.jobs[kind]}").text
        assert link in job, kind
        assert "/exports/coco" not in job, "the dataset is another job's to take home"
        assert link in furnished.client.get(f"/reports/{furnished.result('report_id', kind)}").text, kind


def test_shards_are_one_bar(furnished: Furnished) -> None:
    text = furnished.client.get(f"/jobs/{furnished.jobs['labelling']}").text
    assert text.count("Label images") >= 1
    assert re.search(r"3/8 shards", text)
    assert re.search(r'<progress class="running"[^>]*aria-label="Label images"', text)
    assert "left</b>" in text


def test_curves_are_thinned_and_ordered(furnished: Furnished) -> None:
    found = furnished.client.get(f"/jobs/{furnished.jobs['succeeded']}/curves.json").json()["curves"]
    assert {curve["step"] for curve in found} == {"fit_head", "distil", "train_baseline"}
    for curve in found:
        assert len(curve["x"]) == len(curve["y"]) > 10
        assert curve["x"] == sorted(set(curve["x"]))


def test_the_overview_counts_what_there_is(furnished: Furnished) -> None:
    text = furnished.client.get("/").text
    assert re.search(r"<b>11</b>\s*<span>jobs</span>", text)
    assert "eight shards" in text
    assert "Begin here" not in text
