"""Raw bytes against the real server: lies about lengths, endless bodies, slow heads, things that are no HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from api import http_protocol, strict_json
from service import api_keys
from service.bootstrap import Factory
from tests.api.inputs.served import Served, serve

KEY = f"lf_{8 * '0'}_{43 * 'x'}"
POST = (
    f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n".encode()
)


@pytest.fixture
def served(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A server on a port of its own, with short deadlines."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(strict_json, "BODY_SECONDS", 0.5)
    with factory.work() as work:
        row = api_keys.create(work, "raw bytes", "write").row
        row.prefix, row.secret_sha256 = 8 * "0", api_keys.digest(KEY)
    with serve(factory, {}) as served:
        yield served


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "request_bytes",
    [
        POST + b"Content-Length: -5\r\n\r\n{}",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        POST + b"Content-Length: abc\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nXYZ\r\n{}\r\n",
        b"GET /v1/jobs\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
    ],
)
def test_malformed_requests_are_400_and_closed(served: Served, request_bytes: bytes) -> None:
    answer = served.talk(request_bytes)
    assert status(answer) == 400, answer
    assert b"application/problem+json" in answer
    assert not answer.endswith(b"[left open]")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400


def test_a_body_shorter_than_announced_is_400_in_time(served: Served) -> None:
    answer = served.talk(POST + b'Content-Length: 500\r\nConnection: close\r\n\r\n{"kind":')
    assert status(answer) == 400
    assert b"did not arrive" in answer


def test_an_endless_chunked_body_is_413_at_the_limit(served: Served) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    answer = served.talk(POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n", *[chunk] * 40)
    assert status(answer) == 413


def test_a_large_announced_body_is_413_at_once(served: Served) -> None:
    answer = served.talk(POST + b"Content-Length: 4000000000\r\nConnection: close\r\n\r\n{")
    assert status(answer) == 413


@pytest.mark.parametrize("parts", [[], [b"GET /healthz HT"], [b"GET /healthz HTTP/1.1\r\n", b"A: b\r\n", b"C: d\r\n"]])
def test_a_head_that_drips_is_cut(served: Served, parts: list[bytes]) -> None:
    started = time.monotonic()
    answer = served.talk(*parts, pause=0.1)
    assert answer == b""
    assert time.monotonic() - started < 4


def test_a_head_without_end_is_400(served: Served) -> None:
    answer = served.talk(b"GET /healthz HTTP/1.1\r\nX: ", *[b"x" * 30_000] * 4)
    assert answer == b"" or status(answer) == 400


def test_ordinary_requests_share_a_connection(served: Served) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = served.talk(one, one, last, pause=0.3)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert not answer.endswith(b"[left open]")
