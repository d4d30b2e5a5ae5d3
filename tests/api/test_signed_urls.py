"""Signed addresses: of a folder this service signs and serves them, an S3 store signs and serves its own; both alike."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update

from api.app import create_app
from service import datasets
from service.bootstrap import Factory, build_factory
from service.clock import database_now
from service.database import migrate
from service.doorbell import ListDoorbell
from service.ids import new_id
from service.purging import purge_in_turn
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID, DatasetExport, ServerSecret
from tests.clients import api_client
from tests.servers import S3Address
from tests.service.test_purging import furnish

CONTENT = bytes(range(256)) * 50
DOWNLOADS = {
    "dataset": ["exports/coco", "manifest", "shards/0"],
    "student": ["archive", "files/config.json"],
    "generator": ["archive"],
}


@dataclass
class Served:
    """A service with things to download, and whoever has nothing but an address."""

    client: TestClient
    factory: Factory
    ids: dict[str, str]
    stranger: Callable[..., httpx2.Response]
    """`stranger(method, url, headers=...)`: asks without a key."""

    def sign(self, noun: str, file: str, **query: Any) -> dict[str, Any]:
        """A signed address of one of the downloads."""
        answer = self.client.get(f"/v1/{noun}s/{self.ids[noun]}/{file}/signed-url", params=query)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        signed: dict[str, Any] = answer.json()
        return signed


@pytest.fixture(params=["folder", "s3"])
def served(request: pytest.FixtureRequest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    if request.param == "s3":
        address: S3Address = request.getfixturevalue("s3_address")
        for name, value in address.environment(prefix=new_id("job")).items():
            monkeypatch.setenv(name, value)
    settings = Settings(data_dir=tmp_path / "data")
    migrate(settings.resolved_database_url)
    factory = build_factory(settings, doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    ids = furnish(factory)
    with factory.work() as work:
        export = datasets.get_export(work, ids["dataset"], "coco")
        stored = factory.storage.put_stream(str(export.key), [CONTENT])
        export.sha256, export.num_bytes = stored.sha256, stored.num_bytes
    with api_client(factory, raise_server_exceptions=True) as client, httpx2.Client(trust_env=False) as outside:

        def stranger(method: str, url: str, headers: dict[str, str] | None = None) -> httpx2.Response:
            asked: Any = outside if url.startswith("http") else TestClient(client.app)
            answer: httpx2.Response = asked.request(method, url, headers=headers or {})
            return answer

        yield Served(client, factory, ids, stranger)
    factory.close()


def changed(url: str, **parameters: str) -> str:
    """The same address with other parameters."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    return parts._replace(query=urlencode(query | parameters)).geturl()


@pytest.mark.parametrize(("noun", "file"), [(noun, file) for noun, files in DOWNLOADS.items() for file in files])
def test_whoever_has_the_address_gets_what_the_key_gets(served: Served, noun: str, file: str) -> None:
    signed = served.sign(noun, file)
    direct = served.client.get(f"/v1/{noun}s/{served.ids[noun]}/{file}")
    answer = served.stranger("GET", signed["url"])
    assert (answer.status_code, answer.content) == (200, direct.content)
    assert (signed["method"], signed["num_bytes"]) == ("GET", len(direct.content))
    (name,) = re.findall(r'filename="([^"]+)"', answer.headers["content-disposition"])
    assert name == (
        signed["filename"]
        if noun != "generator" or served.factory.storage.sign("x", seconds=1) is None
        else f"{served.ids[noun]}.zip"
    )
    assert answer.headers["content-disposition"].startswith("attachment")


def test_ranges_and_digests_work_as_ever(served: Served) -> None:
    signed = served.sign("dataset", "exports/coco")
    assert signed["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    part = served.stranger("GET", signed["url"], {"range": "bytes=256-511"})
    assert (part.status_code, part.content) == (206, CONTENT[256:512])
    assert part.headers["content-range"] == f"bytes 256-511/{len(CONTENT)}"
    resumed = served.stranger("GET", signed["url"], {"range": "bytes=12000-", "if-range": part.headers["etag"]})
    assert (resumed.status_code, resumed.content) == (206, CONTENT[12000:])
    assert served.stranger("GET", signed["url"], {"range": "bytes=99999-"}).status_code == 416


def test_input_59_an_address_works_for_its_method_its_object_and_its_time_alone(served: Served) -> None:
    url = served.sign("dataset", "exports/coco")["url"]
    other = served.sign("dataset", "shards/0")["url"]
    key, other_key = urlsplit(url).path, urlsplit(other).path
    assert served.stranger("GET", url).status_code == 200
    signature = next(name for name in parse_qs(urlsplit(url).query) if name.lower().endswith("signature"))
    (good,) = parse_qs(urlsplit(url).query)[signature]
    bad = {
        "no signature": url.partition("?")[0],
        "empty": changed(url, **{signature: ""}),
        "shortened": changed(url, **{signature: good[:-1]}),
        "shortened to half": changed(url, **{signature: good[:32]}),
        "lengthened": changed(url, **{signature: good + "0"}),
        "one digit": changed(url, **{signature: ("0" if good[0] != "0" else "1") + good[1:]}),
        "not a digit": changed(url, **{signature: "é" * 32}),
        "other key": url.replace(key, other_key),
        "other case": url.replace("coco", "COCO"),
    }
    if url.startswith("/"):
        bad |= {
            name: changed(url, **{name: value})
            for name, value in (
                ("expires", "9999999999"),
                ("filename", "evil.html"),
                ("type", "text/html"),
                ("sha256", ""),
            )
        }
    else:
        bad |= {"longer": changed(url, **{"X-Amz-Expires": "900"})}
    for what, address in bad.items():
        answer = served.stranger("GET", address)
        # A store may call what is no signature at all unreadable.
        assert answer.status_code in ({403} if url.startswith("/") else {400, 403}), what
        assert CONTENT[:100] not in answer.content
    for method in ("HEAD", "PUT", "POST", "DELETE", "PATCH"):
        status = served.stranger(method, url).status_code
        assert status in ({403} if method not in {"POST", "PATCH"} else {403, 405}), method
    assert served.stranger("GET", url).status_code == 200, "and nothing of that was done"


def test_input_59_an_address_expires(served: Served) -> None:
    url = served.sign("dataset", "exports/coco", expires_in=2)["url"]
    assert served.stranger("GET", url).status_code == 200
    time.sleep(3.2)
    assert served.stranger("GET", url).status_code == 403


@pytest.mark.parametrize("seconds", ["901", "0", "-1", "x", "1e9"])
def test_no_address_works_longer_than_a_quarter_of_an_hour(served: Served, seconds: str) -> None:
    path = f"/v1/datasets/{served.ids['dataset']}/exports/coco/signed-url"
    assert served.client.get(path, params={"expires_in": seconds}).status_code == 422


def test_what_is_deleted_is_gone_for_who_has_an_address(served: Served) -> None:
    url = served.sign("student", "archive")["url"]
    assert served.client.delete(f"/v1/students/{served.ids['student']}").status_code == 204
    if url.startswith("/"):  # an S3 store goes on until the object is gone there
        assert served.stranger("GET", url).status_code == 410
    purge_in_turn(served.factory)
    assert served.stranger("GET", url).status_code in {404, 410}
    assert served.client.get(f"/v1/students/{served.ids['student']}/archive/signed-url").status_code == 410


def test_an_export_that_expires_is_gone_for_who_has_an_address(served: Served) -> None:
    url = served.sign("dataset", "exports/coco")["url"]
    with served.factory.work() as work:
        work.session.execute(update(DatasetExport).values(expires_at=database_now(-1)))
    assert served.client.get(f"/v1/datasets/{served.ids['dataset']}/exports/coco/signed-url").status_code == 410
    purge_in_turn(served.factory)
    assert served.stranger("GET", url).status_code in {404, 410}


def test_all_processes_share_one_secret_that_is_made_once(served: Served) -> None:
    url = served.sign("dataset", "exports/coco")["url"]
    served.sign("dataset", "manifest")
    with served.factory.read() as work:
        count = work.session.scalar(select(func.count()).select_from(ServerSecret))
    if url.startswith("http"):
        assert count == 0
        return
    assert count == 1
    other = build_factory(served.factory.settings, doorbell=ListDoorbell())
    assert TestClient(create_app(other)).get(url).content == CONTENT
    with served.factory.work() as work:
        work.session.delete(work.session.get_one(ServerSecret, "signed-urls"))
    assert served.stranger("GET", url).status_code == 403


def test_users_are_sent_to_the_address_that_they_can_reach(
    tmp_path: Any, s3_address: S3Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_address.environment(prefix=new_id("job")).items():
        monkeypatch.setenv(name, value)
    public = s3_address.endpoint.replace("127.0.0.1", "localhost")
    factory = build_factory(Settings(data_dir=tmp_path, s3_public_endpoint=public))
    factory.storage.put_stream("students/stu_x/1/config.json", [b"{}"])
    url = factory.storage.sign("students/stu_x/1/config.json", seconds=60)
    assert url is not None
    assert url.startswith(public)
    assert httpx2.get(url, trust_env=False).content == b"{}"
    factory.close()
