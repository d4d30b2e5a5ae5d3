"""Ranges, entity tags, digests and names of downloads, over a student's file."""

from __future__ import annotations

import base64
import hashlib

import pytest
from fastapi.testclient import TestClient

from api.downloads import disposition
from service import datasets, students
from service.bootstrap import Factory
from service.students import StudentFile
from tests import factories

BODY = bytes(range(256)) * 20
DIGEST = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def url(factory: Factory) -> str:
    """Address of a stored file of 5120 bytes."""
    job = factories.make_job(factory)
    with factory.work() as work:
        dataset = datasets.open_for_job(work, work.session.merge(job))
        new = factories.new_student(dataset.id)
        file = StudentFile("model.safetensors", f"students/{new.id}/1/model.safetensors", len(BODY), DIGEST)
        work.storage.put_stream(file.key, [BODY])
        row = students.record(work, job.id, factories.new_student(dataset.id, files=[file]))
    return f"/v1/students/{row.id}/files/model.safetensors"


def test_the_whole_file(client: TestClient, url: str) -> None:
    answer = client.get(url)
    assert (answer.status_code, answer.content) == (200, BODY)
    assert answer.headers["content-length"] == str(len(BODY))
    assert answer.headers["etag"] == f'"{DIGEST}"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(DIGEST)).decode()}:"
    assert answer.headers["content-disposition"].startswith('attachment; filename="model.safetensors"')
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=10-19", (10, 20)),
        ("bytes=5000-", (5000, 5120)),
        ("bytes=5000-99999", (5000, 5120)),
        ("bytes=-20", (5100, 5120)),
        ("bytes=-99999", (0, 5120)),
    ],
)
def test_a_range(client: TestClient, url: str, asked: str, span: tuple[int, int]) -> None:
    answer = client.get(url, headers={"range": asked})
    first, end = span
    assert (answer.status_code, answer.content) == (206, BODY[first:end])
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/5120"
    assert answer.headers["content-length"] == str(end - first)


@pytest.mark.parametrize("asked", ["bytes=5120-", "bytes=9999-10000", "bytes=-0"])
def test_a_range_outside_is_416(client: TestClient, url: str, asked: str) -> None:
    answer = client.get(url, headers={"range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */5120"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "asked", ["bytes=5-3", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,4-5", "bytes=" + "9" * 40]
)
def test_other_ranges_get_the_whole_file(client: TestClient, url: str, asked: str) -> None:
    answer = client.get(url, headers={"range": asked})
    assert (answer.status_code, answer.content) == (200, BODY)


@pytest.mark.parametrize("offered", ['"{}"', 'W/"{}"', '"other", "{}"', "*"])
def test_the_client_that_has_it_gets_304(client: TestClient, url: str, offered: str) -> None:
    answer = client.get(url, headers={"if-none-match": offered.format(DIGEST)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{DIGEST}"'


def test_another_tag_gets_the_file(client: TestClient, url: str) -> None:
    assert client.get(url, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize(("condition", "status"), [(f'"{DIGEST}"', 206), ('"other"', 200)])
def test_if_range_resumes_only_the_same_file(client: TestClient, url: str, condition: str, status: int) -> None:
    assert client.get(url, headers={"range": "bytes=0-9", "if-range": condition}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 200), ({"range": "bytes=5-9"}, 200), ({"if-none-match": "*"}, 304)]
)
def test_head_has_the_headers_of_the_whole_file_and_reads_nothing(
    client: TestClient,
    factory: Factory,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    status: int,
) -> None:
    """Ranges are GET's alone (RFC 9110, section 14.2)."""
    expected = client.get(url, headers={name: headers[name] for name in headers if name != "range"}).headers

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the object was opened")

    monkeypatch.setattr(factory.storage, "get_stream", refuse)
    answer = client.head(url, headers=headers)
    assert (answer.status_code, answer.content) == (status, b"")
    assert {**answer.headers, "x-request-id": ""} == {**expected, "x-request-id": ""}


def test_an_object_that_is_gone_is_404(client: TestClient, factory: Factory, url: str) -> None:
    with factory.read() as work:
        row = students.get(work, url.split("/")[3])
        factory.storage.delete(students.file(row, "model.safetensors").key)
    assert client.get(url).status_code == 404


@pytest.mark.parametrize("name", ["../../etc/passwd", "a%00b", "nothing.bin", "%2e%2e%2fconfig.json"])
def test_names_are_looked_up_never_followed(client: TestClient, url: str, name: str) -> None:
    answer = client.get(url.rpartition("/")[0] + "/" + name)
    assert answer.status_code in {404, 422}


def test_disposition_keeps_any_name_inside_its_quotes() -> None:
    header = disposition('a"b\r\nX-Evil: 1; é/../x.png')
    assert "\r" not in header
    assert "\n" not in header
    assert header.count('"') == 2
    assert "filename*=UTF-8''a%22b%0D%0A" in header
