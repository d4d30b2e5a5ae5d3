"""Inputs 14 to 18: lies about lengths, endless and dripping requests, multipart forms, names that climb."""

from __future__ import annotations

import json
import time

import pytest

from api import http_protocol, strict_json, uploads
from tests.api.archives import ZIP, mask_files, zipped
from tests.api.inputs.served import MASKS, PROBLEM, Served

JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"


def status(answer: bytes) -> int:
    assert not answer.endswith(b"[left open]"), answer
    assert PROBLEM.encode() in answer
    found = int(answer.split(b" ", 2)[1])
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == found
    return found


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: -5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 99999999999999999999999"],
        ["Content-Length: abc"],
        ["Content-Length: 2", CHUNKED],
        [CHUNKED, "Content-Length: 2"],
    ],
)
def test_input_14_a_lie_about_the_length_is_400_and_closed(served: Served, lines: list[str]) -> None:
    with served.unchanged():
        assert status(served.talk(served.head("POST", "/v1/jobs", JSON, *lines) + b"\r\n{}")) == 400


def test_input_14_fewer_bytes_than_announced_are_400(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(uploads, "SILENCE_SECONDS", 0.5)
    for path, kind in (("/v1/jobs", JSON), (MASKS, "Content-Type: application/zip")):
        with served.unchanged():
            head = served.head("POST", path, kind, "Content-Length: 500", "Connection: close")
            assert status(served.talk(head + b"\r\nPK")) == 400


def test_input_15_a_body_beyond_the_limit_is_413_at_the_limit(served: Served) -> None:
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    for path, kind in (("/v1/jobs", JSON), (MASKS, "Content-Type: application/zip")):
        with served.unchanged():
            head = served.head("POST", path, kind, "Connection: close")
            announced = head + b"Content-Length: 4000000000\r\n\r\n{"
            assert status(served.talk(announced)) == 413
            # The service may close while the sender still speaks, which can cost the sender the answer.
            endless = served.talk(head + CHUNKED.encode() + b"\r\n\r\n", *[chunk] * 40)
            assert endless == b"" or status(endless) == 413


def test_input_16_a_head_that_drips_is_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    assert http_protocol.HEAD_SECONDS <= 60
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    started = time.monotonic()
    drops = [b"X-Drop: 1\r\n"] * 40
    assert served.talk(served.head("GET", "/v1/jobs"), *drops, pause=0.1) == b""
    assert time.monotonic() - started < 10


def test_input_16_a_body_that_drips_is_cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each drop comes before the silence is too long; it is the whole that takes too long."""
    assert strict_json.BODY_SECONDS <= 60
    assert uploads.SILENCE_SECONDS + uploads.GRACE_SECONDS <= 60
    monkeypatch.setattr(strict_json, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(uploads, "GRACE_SECONDS", 0.5)
    for path, kind in (("/v1/jobs", JSON), (MASKS, "Content-Type: application/zip")):
        with served.unchanged():
            started = time.monotonic()
            head = served.head("POST", path, kind, "Content-Length: 500", "Connection: close")
            answer = served.talk(head + b"\r\n", *[b"P"] * 100, pause=0.1)
            # The sender is still dripping when the answer comes, and may lose it.
            assert answer == b"" or status(answer) == 400
            assert time.monotonic() - started < 60


@pytest.mark.parametrize(
    "body",
    [
        b"--x\r\nContent-Disposition: form-data; name=f\r\n\r\n1\r\n--x--\r\n",
        b"--x\r\nContent-Disp",
        b"--x\r\n" + b"A: b\r\n" * 20 + b"\r\n1\r\n--x--\r\n",
        b"--x\r\nContent-Disposition: form-data; name=f\r\n\r\n1\r\n" * 1_001 + b"--x--\r\n",
    ],
)
@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_input_17_multipart_forms_are_415_unread(served: Served, body: bytes, kind: str) -> None:
    """No parser of such forms is reached: uploads are the zip itself, all else is JSON."""
    for path in ("/v1/jobs", MASKS):
        served.refused(415, url=path, content=body, headers={"content-type": kind})


def test_input_18_a_name_that_climbs_is_only_a_label(served: Served) -> None:
    body = zipped(mask_files())
    for name in ("../../etc/passwd", ".."):
        before = served.everything()[1]
        answer = served.http.post(MASKS, params={"name": name, "classes": "background,cell"}, content=body, headers=ZIP)
        assert answer.status_code == 201, answer.text
        assert answer.json()["name"] == name
        new = served.everything()[1] - before
        assert new
        assert all(answer.json()["id"] in path and ".." not in path for path in new)
    served.refused(422, url="/v1/annotation-sets?name=a%00b", content=body, headers=ZIP)
