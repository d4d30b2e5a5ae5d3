"""In and out of the dashboard, and the pages of keys and of the audit log."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from service import api_keys
from service.bootstrap import Factory
from tests import factories
from tests.clients import api_client, api_key, with_key

OUR_PAGE = {"sec-fetch-site": "same-origin", "origin": "http://testserver"}


@pytest.fixture
def browser(factory: Factory) -> Iterator[TestClient]:
    """A browser without a key, which does not follow where it is sent."""
    with with_key(factory, None, follow_redirects=False) as client:
        yield client


def sign_in(browser: TestClient, secret: str, following: str = "/") -> object:
    return browser.post("/sign-in", data={"secret": secret, "next": following}, headers=OUR_PAGE)


def token_of(page: str) -> str:
    found = re.search(r'name="csrf_token" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def test_a_page_leads_to_the_sign_in_and_back(browser: TestClient, factory: Factory) -> None:
    answer = browser.get("/jobs?state=failed&kind=label")
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/sign-in?next=/jobs%3Fstate%3Dfailed%26kind%3Dlabel",
    )
    page = browser.get(answer.headers["location"])
    assert page.status_code == 200
    assert 'name="next" value="/jobs?state=failed&amp;kind=label"' in page.text
    assert "/annotation-sets" not in page.text, "a stranger learns nothing of what there is"
    answer = sign_in(browser, api_key(factory), "/jobs?state=failed&kind=label")
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs?state=failed&kind=label")
    assert browser.get("/jobs").status_code == 200
    assert browser.get("/sign-in?next=/students").headers["location"] == "/students"


@pytest.mark.parametrize(
    "following",
    ["https://evil.example/x", "//evil.example", "/\\evil.example", "javascript:alert(1)", "\t//evil.example", ""],
)
def test_the_way_back_stays_here(browser: TestClient, factory: Factory, following: str) -> None:
    location = sign_in(browser, api_key(factory), following).headers["location"]
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\", "/%5C"))


def test_a_wrong_key_stays_outside(browser: TestClient) -> None:
    for secret in ("", "lf_", "x" * 5000, f"lf_{8 * 'a'}_{43 * 'x'}"):
        answer = sign_in(browser, secret)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert 'role="alert"' in answer.text
    assert browser.get("/jobs").status_code == 303


def test_another_site_cannot_sign_a_visitor_in(browser: TestClient, factory: Factory) -> None:
    key = api_key(factory)
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        answer = browser.post("/sign-in", data={"secret": key}, headers=headers)
        assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_a_link_signs_one_browser_in(browser: TestClient, factory: Factory) -> None:
    with api_client(factory, "write") as client:
        made = client.post("/v1/sign-in-links").json()
    for _ in range(2):  # whoever only looks at it does not use it up
        page = browser.get(made["path"])
        assert page.status_code == 200
        assert "set-cookie" not in page.headers
    token = made["path"].partition("token=")[2]
    assert sign_in(browser, token).status_code == 303
    with with_key(factory, None, follow_redirects=False) as other:
        assert sign_in(other, token).status_code == 401


def test_signing_out_ends_the_session_on_the_server(browser: TestClient, factory: Factory) -> None:
    sign_in(browser, api_key(factory))
    (name, value) = next(iter(browser.cookies.items()))
    answer = browser.post("/sign-out", data={"csrf_token": token_of(browser.get("/").text)}, headers=OUR_PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    browser.cookies.set(name, value)
    assert browser.get("/jobs").status_code == 303


def test_a_session_reads_what_its_pages_load(browser: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    sign_in(browser, api_key(factory, "read"))
    assert browser.get(f"/v1/jobs/{job.id}").status_code == 200
    assert browser.get(f"/jobs/{job.id}/curves.json").status_code == 200
    browser.cookies.clear()
    for headers in ({"sec-fetch-mode": "cors"}, {"sec-fetch-mode": "cors", "hx-request": "true"}):
        answer = browser.get(f"/jobs/{job.id}/live", headers=headers)
        assert answer.status_code == 401
        assert answer.headers.get("hx-redirect") == ("/sign-in" if "hx-request" in headers else None)


def test_a_reader_sees_pages_and_changes_nothing(browser: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    sign_in(browser, api_key(factory, "read"))
    page = browser.get("/").text
    assert "/keys" not in page
    data = {"csrf_token": token_of(page)}
    assert browser.post(f"/jobs/{job.id}/cancel", data=data, headers=OUR_PAGE).status_code == 403
    for path in ("/keys", "/audit"):
        answer = browser.get(path)
        assert answer.status_code == 403
        assert "needs the scope admin" in answer.text
    assert browser.post("/sign-out", data=data, headers=OUR_PAGE).status_code == 303


def test_keys_are_made_rotated_and_revoked_on_their_page(browser: TestClient, factory: Factory) -> None:
    sign_in(browser, api_key(factory))
    data = {"csrf_token": token_of(browser.get("/keys").text)}

    def post(path: str, **fields: str) -> object:
        return browser.post(path, data={**data, **fields}, headers=OUR_PAGE)

    def shown(page: str) -> str:
        found = re.search(r"lf_[0-9a-z]{8}_[\w-]{43}", page)
        assert found is not None
        return found[0]

    page = post("/keys", name="<b>nightly</b>", scope="write", days="30")
    first = shown(page.text)
    assert "&lt;b&gt;nightly&lt;/b&gt;" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert first not in browser.get("/keys").text
    with with_key(factory, first) as other:
        key_id = other.get("/v1/caller").json()["key_id"]
        second = shown(post(f"/keys/{key_id}/rotate", overlap_seconds="3600").text)
        assert other.get("/v1/jobs").status_code == 200
    assert post(f"/keys/{key_id}/revoke").headers["location"] == "/keys"
    for key in (first, second):
        with with_key(factory, key) as other:
            assert other.get("/v1/jobs").status_code == 401
    for fields in ({"scope": "root"}, {"name": ""}, {"days": "soon"}, {"days": "99999"}):
        assert post("/keys", **{"name": "x", "scope": "read", **fields}).status_code == 422
    log = browser.get("/audit").text
    for words in ("Create API key", "Rotate API key", "Revoke API key", "Sign in"):
        assert words in log


def test_limits_are_set_and_changed_on_the_page_of_keys(browser: TestClient, factory: Factory) -> None:
    sign_in(browser, api_key(factory))
    data = {"csrf_token": token_of(browser.get("/keys").text)}

    def post(path: str, **fields: str) -> object:
        return browser.post(path, data={**data, **fields}, headers=OUR_PAGE)

    def limits() -> tuple[int | None, int | None]:
        with factory.read() as work:
            row = api_keys.list_page(work).items[0]
            return row.max_stored_bytes, row.max_active_jobs

    new = {"name": "nightly", "scope": "write", "days": ""}
    page = post("/keys", **new, max_stored_gigabytes="2.5", max_active_jobs="3").text
    assert limits() == (2_500_000_000, 3)
    assert "0 B of 2.5 GB" in page
    assert "0 of 3<" in page
    assert 'value="2.5"' in page
    with factory.read() as work:
        shown = f"/keys/{api_keys.list_page(work).items[0].id}"
    path = f"{shown}/update"
    assert "2.5 GB" in browser.get("/keys").text
    for fields, after in (
        ({"max_stored_gigabytes": "0.000000001"}, (1, 3)),
        ({"name": "daily"}, (1, 3)),
        ({"max_stored_gigabytes": "", "max_active_jobs": "12"}, (None, 12)),
        ({"max_stored_gigabytes": "1000000", "max_active_jobs": ""}, (10**15, None)),
    ):
        assert post(path, **fields).headers["location"] == shown
        assert limits() == after
    for fields in ({"max_stored_gigabytes": "0"}, {"max_stored_gigabytes": "1e3"}, {"max_stored_gigabytes": "9999999"}):
        assert post(path, **fields).status_code == 422
        assert post("/keys", **new, **fields).status_code == 422
    for jobs in ("0", "1.5", "many"):
        assert post(path, max_active_jobs=jobs).status_code == 422
    assert limits() == (10**15, None)
    assert f'<a href="{shown}">daily</a>' in browser.get("/keys").text
    assert f'<a href="{shown}">' in browser.get("/audit").text
    assert "Make a new secret" in browser.get(shown).text
    post(f"{shown}/revoke")
    assert "Make a new secret" not in browser.get(shown).text


def test_the_log_links_what_was_done_to(browser: TestClient, factory: Factory) -> None:
    job = factories.make_job(factory)
    sign_in(browser, api_key(factory))
    data = {"csrf_token": token_of(browser.get("/").text)}
    browser.post(f"/jobs/{job.id}/cancel", data=data, headers=OUR_PAGE)
    assert f'<a href="/jobs/{job.id}">{job.id}</a>' in browser.get("/audit").text
