"""Raw bytes against the real server: lies about lengths, endless bodies, slow heads, things that are no HTTP."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from api import http_protocol, strict_json
from api.app import create_app
from api.http_protocol import ImpatientProtocol
from service import api_keys
from service.bootstrap import Factory

KEY = f"lf_{8 * '0'}_{43 * 'x'}"
POST = (
    f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n".encode()
)


@pytest.fixture
def port(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server on a port of its own, with short deadlines."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(strict_json, "BODY_SECONDS", 0.5)
    with factory.work() as work:
        row = api_keys.create(work, "raw bytes", "write").row
        row.prefix, row.secret_sha256 = 8 * "0", api_keys.digest(KEY)
    config = uvicorn.Config(
        create_app(factory), port=0, http=ImpatientProtocol, log_level="error", access_log=False, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send the parts and read until the server closes or is silent for five seconds."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            time.sleep(pause)
        answer = b""
        try:
            while chunk := connection.recv(65_536):
                answer += chunk
        except TimeoutError:
            return answer + b" [left open]"
        except OSError:
            pass
        return answer


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
def test_malformed_requests_are_400_and_closed(port: int, request_bytes: bytes) -> None:
    answer = talk(port, request_bytes)
    assert status(answer) == 400, answer
    assert b"application/problem+json" in answer
    assert not answer.endswith(b"[left open]")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 400


def test_a_body_shorter_than_announced_is_400_in_time(port: int) -> None:
    answer = talk(port, POST + b'Content-Length: 500\r\nConnection: close\r\n\r\n{"kind":')
    assert status(answer) == 400
    assert b"did not arrive" in answer


def test_an_endless_chunked_body_is_413_at_the_limit(port: int) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    answer = talk(port, POST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n", *[chunk] * 40)
    assert status(answer) == 413


def test_a_large_announced_body_is_413_at_once(port: int) -> None:
    answer = talk(port, POST + b"Content-Length: 4000000000\r\nConnection: close\r\n\r\n{")
    assert status(answer) == 413


@pytest.mark.parametrize("parts", [[], [b"GET /healthz HT"], [b"GET /healthz HTTP/1.1\r\n", b"A: b\r\n", b"C: d\r\n"]])
def test_a_head_that_drips_is_cut(port: int, parts: list[bytes]) -> None:
    started = time.monotonic()
    answer = talk(port, *parts, pause=0.1)
    assert answer == b""
    assert time.monotonic() - started < 4


def test_a_head_without_end_is_400(port: int) -> None:
    answer = talk(port, b"GET /healthz HTTP/1.1\r\nX: ", *[b"x" * 30_000] * 4)
    assert answer == b"" or status(answer) == 400


def test_ordinary_requests_share_a_connection(port: int) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = talk(port, one, one, last, pause=0.3)
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert not answer.endswith(b"[left open]")
