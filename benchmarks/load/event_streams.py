"""How late events reach 500 clients that follow jobs on one API process.

`python -m benchmarks.load.event_streams` starts the API on SQLite with running jobs, opens the event streams of all clients in
a process of their own, then writes events from this one, as a worker would. A delay is the time between an event's
`created_at` and its arrival, clocks being the same; it contains the half second after which the API looks again.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import uvloop
from sqlalchemy import select

from benchmarks.load.api_process import ApiProcess, api_process
from benchmarks.load.http_load import request_bytes
from benchmarks.load.stored_jobs import store_running_jobs
from benchmarks.paired import Figure, print_table
from service import events
from service.bootstrap import Factory
from service.tables import Job

DATA = b"data: "
SETTLE_SECONDS = 2.0
OPEN_SECONDS = 60.0


def figures(
    *, streams: int = 500, jobs: int = 100, events_per_second: float = 50.0, seconds: float = 20.0, port: int = 0
) -> list[Figure]:
    """The delay of nearly all events, and whether each came once to all who follow its job."""
    with tempfile.TemporaryDirectory() as folder, api_process(Path(folder), port=port) as api, api.factory() as factory:
        store_running_jobs(factory, jobs)
        with factory.read() as work:
            job_ids = list(work.session.scalars(select(Job.id)))
        followed = [job_ids[number % jobs] for number in range(streams)]
        written, delays = _follow(api, factory, followed, events_per_second, seconds)
    expected = sum(followed.count(job_id) for job_id in written)
    cuts = statistics.quantiles(delays, n=100)
    detail = f"{len(written)} events in {jobs} jobs; p50 {cuts[49]:.2f} s, most {max(delays):.2f} s"
    return [
        Figure(f"delay of 99 % of events, {streams} streams", cuts[98], "s", at_most=1.0, detail=detail),
        Figure("events that came / that ought to", len(delays) / expected, at_least=1.0, at_most=1.0),
    ]


def _follow(
    api: ApiProcess, factory: Factory, followed: list[str], rate: float, seconds: float
) -> tuple[list[str], list[float]]:
    """Ids of the jobs that had an event, one per event, and the seconds that each delivery took."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(1, mp_context=context) as process:
        is_open, is_over = manager.Event(), manager.Event()
        listening = process.submit(_in_process, api.port, followed, api.headers, is_open, is_over)
        while not is_open.wait(0.2):
            if listening.done():
                listening.result()
        written = _write(factory, sorted(set(followed)), rate, seconds)
        time.sleep(SETTLE_SECONDS)
        is_over.set()
        return written, listening.result()


def _write(factory: Factory, job_ids: list[str], rate: float, seconds: float) -> list[str]:
    """One event after another, job by job."""
    written: list[str] = []
    started = time.monotonic()
    while (elapsed := time.monotonic() - started) < seconds:
        if len(written) > elapsed * rate:
            time.sleep(1 / rate)
            continue
        job_id = job_ids[len(written) % len(job_ids)]
        with factory.work() as work:
            events.log(work, job_id, None, f"event {len(written)}")
        written.append(job_id)
    return written


def _in_process(
    port: int, followed: list[str], headers: dict[str, str], is_open: threading.Event, is_over: threading.Event
) -> list[float]:
    return uvloop.run(_listen(port, followed, headers, is_open, is_over))


async def _listen(
    port: int, followed: list[str], headers: dict[str, str], is_open: threading.Event, is_over: threading.Event
) -> list[float]:
    loop = asyncio.get_running_loop()
    streams = []
    for job_id in followed:
        request = request_bytes(f"/v1/jobs/{job_id}/events", headers)
        streams.append((await loop.create_connection(lambda request=request: _Stream(request), "127.0.0.1", port))[1])
    async with asyncio.timeout(OPEN_SECONDS):
        await asyncio.gather(*(stream.opened for stream in streams))
    is_open.set()
    while not await loop.run_in_executor(None, is_over.wait, 0.2):
        pass
    for stream in streams:
        stream.close()
    return [delay for stream in streams for delay in stream.delays]


class _Stream(asyncio.Protocol):
    """One client that reads as fast as it can."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.delays: list[float] = []
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.time()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"HTTP/1.1") and not line.startswith(b"HTTP/1.1 200"):
                self.opened.set_exception(RuntimeError(f"a stream was refused: {line.decode()}"))
            elif line.startswith(b": ") and not self.opened.done():
                self.opened.set_result(None)  # the comment that begins every stream
            elif line.startswith(DATA):
                self.delays.append(now - _created_at(line[len(DATA) :]))

    def close(self) -> None:
        self._transport.close()


def _created_at(data: bytes) -> float:
    return datetime.fromisoformat(orjson.loads(data)["created_at"]).timestamp()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=100, help="how many different jobs they follow")
    parser.add_argument("--events-per-second", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    args = parser.parse_args(arguments)
    print_table(figures(**vars(args)))


if __name__ == "__main__":
    main()
