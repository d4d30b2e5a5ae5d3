"""Many keep-alive connections that ask the same thing again and again, in a process of their own.

A plain socket protocol on uvloop: it splits answers by their Content-Length and does nothing else, so that it takes a
small part of what the server takes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import uvloop

HEAD_END = b"\r\n\r\n"
#: A rate of fewer answers says nothing; a short measurement on a busy machine goes on until it has them.
LEAST_ANSWERS, PATIENCE_SECONDS = 10, 120.0


@dataclass(frozen=True)
class Rate:
    """What came back."""

    per_second: float
    """Answers with status 200."""
    p50_ms: float
    """Half of the answers came within this."""
    p99_ms: float
    """All but one in a hundred did."""
    failures: int
    """Answers with any other status."""


def measure(
    port: int, path: str, headers: Mapping[str, str], *, seconds: float, connections: int = 32, warm_up: float = 1.0
) -> Rate:
    """Ask for `path` on all connections at once for so long, after a warm-up that is not counted."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_in_process, port, path, dict(headers), seconds, connections, warm_up).result()


def request_bytes(path: str, headers: Mapping[str, str]) -> bytes:
    """A GET as it goes over the wire."""
    lines = [f"GET {path} HTTP/1.1", "host: 127.0.0.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _in_process(
    port: int, path: str, headers: dict[str, str], seconds: float, connections: int, warm_up: float
) -> Rate:
    return uvloop.run(_ask(port, request_bytes(path, headers), seconds, connections, warm_up))


async def _ask(port: int, request: bytes, seconds: float, connections: int, warm_up: float) -> Rate:
    loop = asyncio.get_running_loop()
    asking = [
        (await loop.create_connection(lambda: _Connection(request), "127.0.0.1", port))[1] for _ in range(connections)
    ]
    await asyncio.sleep(warm_up)
    for connection in asking:
        connection.milliseconds.clear()
        connection.failures = 0
    started = time.perf_counter()
    await asyncio.sleep(seconds)
    while sum(len(one.milliseconds) + one.failures for one in asking) < LEAST_ANSWERS:
        if time.perf_counter() - started > PATIENCE_SECONDS:
            break
        await asyncio.sleep(0.05)
    elapsed = time.perf_counter() - started
    milliseconds = [one for connection in asking for one in connection.milliseconds]
    failures = sum(connection.failures for connection in asking)
    for connection in asking:
        connection.close()
    return _rate(milliseconds, failures, elapsed)


def _rate(milliseconds: list[float], failures: int, elapsed: float) -> Rate:
    if len(milliseconds) < 2:
        raise RuntimeError(f"only {len(milliseconds)} answers with status 200 came, and {failures} others")
    cuts = statistics.quantiles(milliseconds, n=100)
    return Rate(len(milliseconds) / elapsed, cuts[49], cuts[98], failures)


@dataclass
class _Connection(asyncio.Protocol):
    """One request at a time."""

    request: bytes
    milliseconds: list[float] = field(default_factory=list)
    failures: int = 0
    _received: bytes = b""
    _sent_at: float = 0.0
    _closing: bool = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head_end = self._received.find(HEAD_END)
        if head_end < 0 or len(self._received) < head_end + len(HEAD_END) + _body_length(self._received[:head_end]):
            return
        if self._received.startswith(b"HTTP/1.1 200"):
            self.milliseconds.append((time.perf_counter() - self._sent_at) * 1000)
        else:
            self.failures += 1
        self._received = b""
        self._send()

    def close(self) -> None:
        self._closing = True
        self._transport.close()

    def _send(self) -> None:
        if not self._closing:
            self._sent_at = time.perf_counter()
            self._transport.write(self.request)


def _body_length(head: bytes) -> int:
    at = head.lower().index(b"content-length:") + len(b"content-length:")
    return int(head[at:].split(b"\r\n", 1)[0])
