"""Inputs 57 and 58: who may pass the gate, and what a browser is not made to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import text

from api.app import create_app
from api.authentication import is_open
from service import api_keys, audit, jobs
from service.bootstrap import Factory
from service.clock import utc_now
from service.tables import ApiKey, Event
from tests import factories
from tests.clients import api_client, api_key, other_workspace, with_key

#: Where a visitor may come without a key: the sign-in page, the way out, and the choice of colours.
ENTRANCES = {"/sign-in", "/sign-out", "/theme/{theme}"}


def all_routes(routes: Iterable[Any]) -> Iterator[APIRoute]:
    """Also those of included routers."""
    for route in routes:
        if isinstance(route, APIRoute):
            yield route
        elif (router := getattr(route, "original_router", None)) is not None:
            yield from all_routes(router.routes)


def test_input_57_without_a_key_nothing_but_the_open_paths_answers(factory: Factory) -> None:
    """Every route of the application, pages too, so that a new one cannot be forgotten."""
    app = create_app(factory)
    routes = list(all_routes(app.routes))
    closed = [route for route in routes if not is_open(route.path) and route.path not in ENTRANCES]
    assert len(closed) > 50
    assert {route.path for route in routes} - {route.path for route in closed} - ENTRANCES == {
        "/healthz",
        "/readyz",
        "/favicon.ico",
        "/static/{name:path}",
        "/v1/objects/{key:path}",
    }
    with TestClient(app, raise_server_exceptions=False, follow_redirects=False) as client:
        for route in closed:
            for method in sorted(route.methods):
                answer = client.request(method, re.sub(r"\{\w+\}", "1", route.path))
                if route.include_in_schema or method != "GET":
                    assert answer.status_code == 401, (method, route.path)
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                    assert answer.json()["type"].endswith("unauthenticated")
                else:
                    assert (answer.status_code, answer.headers["location"][:14]) == (303, "/sign-in?next=")
        for path in ("/v1", "/v1/", "/v1/nothing", "//v1/jobs", "/V1/jobs", "/static/../v1/jobs"):
            assert client.get(path).status_code in {303, 401, 404}, path


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer lf_",
        f"Bearer lf_{8 * 'a'}_{43 * 'x'}",
        "Basic dXNlcjpwYXNz",
        "Bearer \xff\xfe",
        f"Bearer {'x' * 5000}",
        "Bearer ' OR 1=1 --",
    ],
)
def test_input_57_a_bad_key_is_401(factory: Factory, header: str) -> None:
    api_key(factory)
    with with_key(factory, None) as client:
        answer = client.get("/v1/jobs", headers={"authorization": header.encode("latin-1")})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="label-factory", error="invalid_token"'


def test_input_57_a_key_with_another_secret_is_401(factory: Factory) -> None:
    key = api_key(factory)
    for wrong in (
        key[:-1] + ("a" if key[-1] != "a" else "b"),
        key[:-1],
        key + "x",
        key.upper(),
        f"{key[:12]}{43 * 'x'}",
    ):
        with with_key(factory, wrong) as client:
            assert client.get("/v1/jobs").status_code == 401
    with with_key(factory, key) as client:
        assert client.get("/v1/jobs").status_code == 200


def test_input_57_a_revoked_key_is_401_at_once(factory: Factory) -> None:
    with factory.work() as work:
        made = api_keys.create(work, "leaked", "write")
    with with_key(factory, made.key) as client:
        assert client.get("/v1/jobs").status_code == 200
        with api_client(factory) as admin:
            assert admin.post(f"/v1/api-keys/{made.row.id}:revoke").json()["revoked_at"]
        answer = client.get("/v1/jobs")
    assert answer.status_code == 401
    assert "revoked" in answer.json()["detail"]


def test_input_57_an_expired_key_is_401(factory: Factory) -> None:
    with factory.work() as work:
        made = api_keys.create(work, "short", "admin", lifetime=timedelta(days=1))
    with with_key(factory, made.key) as client:
        assert client.get("/v1/jobs").status_code == 200
        with factory.work() as work:
            work.session.get_one(ApiKey, made.row.id).expires_at = utc_now()
        answer = client.get("/v1/jobs")
    assert answer.status_code == 401
    assert "expired" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["api_key", "key", "token", "access_token", "authorization"])
def test_input_57_a_key_in_the_query_is_401(factory: Factory, name: str) -> None:
    key = api_key(factory)
    with with_key(factory, None) as client:
        for value in (key, f"Bearer {key}"):
            assert client.get("/v1/jobs", params={name: value}).status_code == 401
            client.cookies.set("label_factory_session", key)
            assert client.get("/v1/jobs").status_code == 401


def test_a_refused_body_is_not_read(factory: Factory) -> None:
    def never() -> object:
        raise AssertionError("the body was read")
        yield b""

    with with_key(factory, None, raise_server_exceptions=True) as client:
        assert client.post("/v1/annotation-sets?name=x", content=never()).status_code == 401  # type: ignore[arg-type]


def test_a_scope_that_is_too_small_is_403_and_named(factory: Factory) -> None:
    for scope, method, path, needed in (
        ("read", "POST", "/v1/image-pools", "write"),
        ("read", "GET", "/v1/api-keys", "admin"),
        ("write", "POST", "/v1/api-keys", "admin"),
        ("write", "GET", "/v1/audit-entries", "admin"),
        ("write", "GET", "/v1/workspaces", "admin"),
    ):
        with api_client(factory, scope) as client:  # type: ignore[arg-type]
            answer = client.request(method, path, json={"name": "x", "scope": "read"} if method == "POST" else None)
        assert answer.status_code == 403, (scope, path)
        assert f"needs the scope {needed}" in answer.json()["detail"]
        assert answer.headers["www-authenticate"] == f'Bearer error="insufficient_scope", scope="{needed}"'
    with api_client(factory, "write") as client:
        assert client.post("/v1/image-pools", json={"name": "x"}).status_code == 201
    with api_client(factory, "read") as client:
        assert len(client.get("/v1/image-pools").json()["items"]) == 1


def test_only_the_operators_workspace_sees_the_whole_installation(factory: Factory) -> None:
    with api_client(factory, "read") as client:
        assert client.get("/metrics").status_code == 200
    with api_client(factory, workspace_id=other_workspace(factory)) as client:
        for path in ("/metrics", "/v1/workspaces"):
            assert client.get(path).status_code == 403
        assert client.post("/v1/workspaces", json={"name": "more"}).status_code == 403


def test_the_last_use_is_written_once_a_minute(factory: Factory) -> None:
    with factory.work() as work:
        made = api_keys.create(work, "nightly", "read")
    with with_key(factory, made.key) as client:
        uses = []
        for _ in range(2):
            client.get("/v1/jobs")
            with factory.read() as work:
                uses.append(api_keys.get(work, made.row.id).last_used_at)
        assert uses[0] is not None
        assert uses[0] == uses[1]
        with factory.work() as work:
            work.session.get_one(ApiKey, made.row.id).last_used_at = utc_now() - timedelta(minutes=2)
        client.get("/v1/jobs")
        with factory.read() as work:
            assert utc_now() - (api_keys.get(work, made.row.id).last_used_at or utc_now()) < timedelta(minutes=1)


def test_one_request_writes_the_last_use_for_all_that_come_meanwhile(factory: Factory) -> None:
    """While a writer has the database, each of them would hold a thread and a connection for as long as it waits."""
    with factory.work() as work:
        made = api_keys.create(work, "nightly", "read")
    # Answers are sent before the use is written down; a TestClient waits for both, so it asks from threads.
    with with_key(factory, made.key) as client, ThreadPoolExecutor(8) as threads:
        with factory.work() as work:
            work.session.execute(text("SELECT 1"))
            asked = [threads.submit(client.get, "/v1/jobs") for _ in range(8)]
            done, waiting = wait(asked, timeout=5)
            assert (len(done), len(waiting)) == (7, 1)
        assert {answer.result().status_code for answer in asked} == {200}
    with factory.read() as work:
        assert api_keys.get(work, made.row.id).last_used_at is not None


# Input 58: the cookie of a browser.


def signed_in(factory: Factory, **options: object) -> TestClient:
    """A browser with a session, which does not follow where it is sent."""
    client = with_key(factory, None, follow_redirects=False, **options)
    answer = client.post("/sign-in", data={"secret": api_key(factory)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return client


def csrf_token(client: TestClient) -> str:
    found = re.search(r'name="csrf-token" content="([0-9a-f]{64})"', client.get("/jobs").text)
    assert found is not None
    return found[1]


OUR_PAGE = {"sec-fetch-site": "same-origin", "origin": "http://testserver"}


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver:81"},
        {"origin": "http://testserver.evil.example"},
    ],
)
def test_input_58_a_cross_site_post_with_the_cookie_is_403(factory: Factory, headers: dict[str, str]) -> None:
    job = factories.make_job(factory)
    client = signed_in(factory)
    token = csrf_token(client)
    for path in (f"/jobs/{job.id}/cancel", f"/v1/jobs/{job.id}:cancel", "/keys", "/sign-out"):
        answer = client.post(path, headers={**headers, "x-csrf-token": token}, data={"csrf_token": token})
        assert answer.status_code == 403, path
    assert job_state(factory, job.id) == "queued"
    assert client.get("/").status_code == 200


def test_input_58_a_post_with_the_cookie_and_without_the_token_is_403(factory: Factory) -> None:
    job = factories.make_job(factory)
    client = signed_in(factory)
    other = csrf_token(signed_in(factory))
    for data in ({}, {"csrf_token": ""}, {"csrf_token": other}, {"csrf_token": "ü"}):
        for path in (f"/jobs/{job.id}/cancel", "/keys", "/sign-out", "/theme/dark", "/sign-in"):
            assert client.post(path, headers=OUR_PAGE, data=data).status_code == 403, (path, data)
    for headers in ({}, {"x-csrf-token": other}, {"x-csrf-token": ""}):
        for path in (f"/v1/jobs/{job.id}:cancel", "/v1/image-pools", "/v1/api-keys", "/v1/nothing"):
            answer = client.post(path, headers={**OUR_PAGE, **headers}, json={"name": "x", "csrf_token": other})
            assert answer.status_code == 403, path
    assert job_state(factory, job.id) == "queued"
    with factory.read() as work:
        assert not [
            row for row in audit.list_page(work, limit=100).items if row.outcome == "done" and "job" in row.operation
        ]


def test_input_58_our_own_page_may_act(factory: Factory) -> None:
    first, second = factories.make_job(factory), factories.make_job(factory)
    client = signed_in(factory)
    token = csrf_token(client)
    answer = client.post(f"/jobs/{first.id}/cancel", headers=OUR_PAGE, data={"csrf_token": token})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{first.id}")
    answer = client.post(f"/v1/jobs/{second.id}:cancel", headers={**OUR_PAGE, "x-csrf-token": token})
    assert answer.status_code == 200
    assert job_state(factory, first.id) == job_state(factory, second.id) == "cancelled"


def job_state(factory: Factory, job_id: str) -> str:
    with factory.read() as work:
        return jobs.get(work, job_id).state


def test_the_cookie_is_kept_from_scripts_and_other_sites(factory: Factory) -> None:
    key = api_key(factory)
    for base, secure in (("http://testserver", False), ("https://testserver", True)):
        with with_key(factory, None, base_url=base, follow_redirects=False) as client:
            cookie = client.post("/sign-in", data={"secret": key}).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert ("Secure" in cookie) is secure
        assert key not in cookie


def test_two_services_on_one_host_keep_their_sessions_apart(factory: Factory) -> None:
    with with_key(factory, None, base_url="http://127.0.0.1:8001", follow_redirects=False) as client:
        cookie = client.post("/sign-in", data={"secret": api_key(factory)}).headers["set-cookie"]
    assert cookie.startswith("label_factory_session_8001=")


def test_what_is_refused_is_in_the_audit_log(factory: Factory) -> None:
    job = factories.make_job(factory)
    with api_client(factory, "read") as client:
        client.post(f"/v1/jobs/{job.id}:cancel")
    with api_client(factory) as client:
        client.post(f"/v1/jobs/{job.id}:retry")
        found = client.get("/v1/audit-entries").json()["items"]
    assert [(row["actor"], row["outcome"], row["status"]) for row in found] == [
        ("admin key", "refused", 409),
        ("read key", "refused", 403),
    ]
    assert (found[0]["operation"], found[0]["object_id"]) == ("retry_job", job.id)


def test_an_audit_entry_stands_or_falls_with_its_change(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    with api_client(factory) as client:
        made = client.post("/v1/image-pools", json={"name": "x"}, headers={"x-request-id": "abc"}).json()
        (row,) = client.get("/v1/audit-entries").json()["items"]
        assert (row["operation"], row["object_id"], row["outcome"]) == ("create_image_pool", made["id"], "done")
        assert (row["actor"], row["address"], row["request_id"]) == ("admin key", "testclient", "abc")

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("no audit")

        monkeypatch.setattr(audit, "record_done", broken)
        assert client.post("/v1/image-pools", json={"name": "y"}).status_code == 500
        assert [pool["name"] for pool in client.get("/v1/image-pools").json()["items"]] == ["x"]


def test_reading_leaves_no_entry(factory: Factory) -> None:
    job = factories.make_job(factory)
    with api_client(factory) as client:
        client.get(f"/v1/jobs/{job.id}")
        client.get("/v1/jobs/job_none")
        assert client.get("/v1/audit-entries").json()["items"] == []
    with factory.read() as work:
        assert work.session.query(Event).count() > 0
