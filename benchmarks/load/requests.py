"""How many requests one API process answers in a second, and how long a page of a long list takes.

`python -m benchmarks.load.requests` starts the API on SQLite, writes 10,000 jobs and asks with an API key, as a user would:
the probe, a list of 50 jobs (the same page on 32 connections), both beside bare FastAPI ([bare_app.py](bare_app.py)), then every page of every list of jobs, one by one.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.load.api_process import ApiProcess, api_process, bare_process
from benchmarks.load.http_load import measure
from benchmarks.load.stored_jobs import job_pages, store_jobs
from benchmarks.paired import Figure, print_table

DASHBOARD = ("/", "/jobs")


def rates(api: ApiProcess, bare_port: int, seconds: float) -> list[Figure]:
    """The probe and a list of 50 jobs; each at once after the same answer of the yardstick."""
    wanted = (("ping (GET /healthz)", "/healthz", 3_000.0), ("list of 50 jobs", "/v1/jobs?limit=50", 2_500.0))
    rows = []
    for question, path, least in wanted:
        bare = measure(bare_port, path, {}, seconds=seconds)
        rate = measure(api.port, path, api.headers, seconds=seconds)
        detail = f"p50 {rate.p50_ms:.1f} ms, p99 {rate.p99_ms:.1f} ms; bare FastAPI {bare.per_second:,.0f} /s"
        rows.append(Figure(question, rate.per_second, "/s", at_least=least, detail=f"{detail}; {rate.failures} failed"))
    return rows


def pages(api: ApiProcess, jobs: int) -> list[Figure]:
    """The slowest page of all lists of jobs, and of the dashboard."""
    with httpx2.Client(base_url=f"http://127.0.0.1:{api.port}", headers=api.headers, trust_env=False) as client:
        for path in ("/v1/jobs", *DASHBOARD):  # the first page after a start compiles its template
            client.get(path).raise_for_status()
        lists = {limit: [one for path in job_pages(limit) for one in _walk(client, path)] for limit in (50, 200)}
        views = [_timed(client, path)[0] for path in DASHBOARD for _ in range(10)]
    return [
        *(_slowest(f"list pages of {limit}, {jobs:,} jobs stored", found) for limit, found in lists.items()),
        _slowest(f"dashboard's overview and jobs, {jobs:,} jobs stored", views),
    ]


def _slowest(question: str, milliseconds: list[float]) -> Figure:
    cut = statistics.quantiles(milliseconds, n=100)[98]
    detail = f"the slowest of {len(milliseconds)}; p50 {statistics.median(milliseconds):.1f} ms, p99 {cut:.1f} ms"
    return Figure(question, max(milliseconds), "ms", at_most=50, detail=detail)


def _walk(client: httpx2.Client, path: str) -> Iterator[float]:
    """Milliseconds of each page, to the last."""
    cursor: str | None = ""
    while cursor is not None:
        milliseconds, answer = _timed(client, f"{path}&cursor={cursor}" if cursor else path)
        yield milliseconds
        cursor = answer.json()["next_cursor"]


def _timed(client: httpx2.Client, path: str) -> tuple[float, Any]:
    started = time.perf_counter()
    answer = client.get(path).raise_for_status()
    return (time.perf_counter() - started) * 1000, answer


def figures(*, seconds: float = 10.0, jobs: int = 10_000, port: int = 0) -> list[Figure]:
    """A row per question."""
    with tempfile.TemporaryDirectory() as folder, api_process(Path(folder), port=port) as api:
        with api.factory() as factory:
            store_jobs(factory, jobs)
        with bare_process(Path(folder)) as bare_port:
            rows = rates(api, bare_port, seconds)
        return [*rows, *pages(api, jobs)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    args = parser.parse_args(arguments)
    print_table(figures(seconds=args.seconds, jobs=args.jobs, port=args.port))


if __name__ == "__main__":
    main()
