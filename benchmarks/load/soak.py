"""Half an hour of ordinary use: does the service grow?

`python -m benchmarks.load.soak --minutes 30` runs one API process and one worker whose labelling sleeps, and uses them as several
users would: probes, lists, jobs made, followed to their end, cancelled, datasets and files read, uploads that are refused,
wrong keys, streams that are cut. Every ten seconds memory, descriptors and temporary files of both are written down; the
middle of the last third is held against that of the second, the first being the time to warm up.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil

from benchmarks.load.api_process import ApiProcess, api_process
from benchmarks.load.many_shards import job_document, running_workers
from benchmarks.paired import Figure, print_table

SHARDS = 4
SHARD_SECONDS = 0.1
PAUSE_SECONDS = 0.1
USERS = 2
ENDED = {"succeeded", "failed", "cancelled"}


@dataclass(frozen=True)
class Reading:
    """What a process uses at a moment."""

    memory_mib: float
    descriptors: float
    threads: float


class Use:
    """What users do, in a random order; counts what was not answered as it ought to be."""

    def __init__(self, api: ApiProcess, template: dict[str, Any], seed: int) -> None:
        self._client = httpx2.Client(base_url=f"http://127.0.0.1:{api.port}", headers=api.headers, trust_env=False)
        self._template = template
        self._random = random.Random(seed)
        self.answers = 0
        self.wrong: list[str] = []

    def until(self, over: threading.Event) -> None:
        """One thing after another."""
        actions = (self._look, self._look, self._look, self._run_job, self._cancel_job, self._upload, self._stranger)
        while not over.wait(PAUSE_SECONDS):
            self._random.choice(actions)()
        self._client.close()

    def _ask(self, method: str, path: str, wanted: int, **options: Any) -> Any:
        answer = self._client.request(method, path, timeout=60, **options)
        self.answers += 1
        if answer.status_code != wanted:
            self.wrong.append(f"{method} {path}: {answer.status_code} instead of {wanted}")
        return answer

    def _look(self) -> None:
        for path in ("/healthz", "/v1/jobs?limit=50", "/v1/datasets", "/", "/jobs", "/metrics"):
            self._ask("GET", path, 200)

    def _make_job(self) -> str:
        return str(self._ask("POST", "/v1/jobs", 202, json=self._template).json()["id"])

    def _run_job(self) -> None:
        """Follow it to its end, then read what it made."""
        job_id = self._make_job()
        with self._client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=120) as stream:
            for _line in stream.iter_lines():
                pass
        job = self._ask("GET", f"/v1/jobs/{job_id}", 200).json()
        if job["state"] != "succeeded":
            self.wrong.append(f"{job_id} has {job['state']}: {job['error']}")
            return
        dataset = f"/v1/datasets/{job['result']['dataset_id']}"
        for path in (dataset, f"{dataset}/images", f"{dataset}/manifest"):
            self._ask("GET", path, 200)

    def _cancel_job(self) -> None:
        """Cut its stream and cancel it."""
        job_id = self._make_job()
        with self._client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=60) as stream:
            next(stream.iter_lines())
        self._ask("POST", f"/v1/jobs/{job_id}:cancel", 200)

    def _upload(self) -> None:
        pool = self._ask("POST", "/v1/image-pools", 201, json={"name": "soak"}).json()["id"]
        headers = {"content-type": "application/zip"}
        self._ask("POST", f"/v1/image-pools/{pool}/images", 422, content=b"no zip" * 50_000, headers=headers)
        self._ask("DELETE", f"/v1/image-pools/{pool}", 204)

    def _stranger(self) -> None:
        self._ask("GET", "/v1/jobs", 401, headers={"authorization": "Bearer lf_00000000_wrong"})
        self._ask("GET", "/v1/jobs/job_01kaxv8e3f5g7h9j1k3m5n7p9q", 404)
        self._ask("POST", "/v1/jobs", 422, json={"kind": "label"})


def figures(*, minutes: float = 30.0, every_seconds: float = 10.0, port: int = 0) -> list[Figure]:
    """What grew, for both processes."""
    # Users of a soak never rest: the many jobs of a long one must not meet the limits on refusals.
    limits = {"shard_size": 2, "refusals_per_minute": 1_000_000}
    with tempfile.TemporaryDirectory() as name, api_process(Path(name), port=port, **limits) as api:
        folder = Path(name)
        with running_workers(api.settings, 1, SHARD_SECONDS, folder) as pids:
            watched = {"API": api.process, "worker": psutil.Process(pids[0])}
            with api.factory() as factory:
                template = job_document(factory, SHARDS)
            users = [Use(api, template, seed) for seed in range(USERS)]
            read: dict[str, list[Reading]] = {name: [] for name in watched}
            with _in_use(users):
                for _ in range(max(3, round(minutes * 60 / every_seconds))):
                    time.sleep(every_seconds)
                    for name, process in watched.items():
                        read[name].append(_reading(process))
            left = _left_behind(api)
    wrong = [line for user in users for line in user.wrong]
    return [
        *(row for name, readings in read.items() for row in _growth(name, readings)),
        Figure("temporary files left", len(left), "", at_most=0, detail=", ".join(left[:3])),
        Figure(
            f"wrong answers in {minutes:g} minutes",
            len(wrong),
            "",
            at_most=0,
            detail="; ".join([f"{sum(user.answers for user in users):,} answers", *sorted(set(wrong))[:3]]),
        ),
    ]


class _in_use:  # noqa: N801 - a context manager
    """Users at work."""

    def __init__(self, users: Sequence[Use]) -> None:
        self._over = threading.Event()
        self._threads = [threading.Thread(target=user.until, args=[self._over]) for user in users]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def _reading(process: psutil.Process) -> Reading:
    return Reading(process.memory_info().rss / 2**20, process.num_fds(), process.num_threads())


def _growth(name: str, readings: list[Reading]) -> Iterator[Figure]:
    """A process may breathe; what it must not do is grow."""
    rules: tuple[tuple[str, Callable[[Reading], float], str, float], ...] = (
        ("memory", lambda one: one.memory_mib, "MiB", 0.05),
        ("descriptors", lambda one: one.descriptors, "", 0.1),
        ("threads", lambda one: one.threads, "", 0.1),
    )
    third = len(readings) // 3
    for what, value, unit, share in rules:
        before = statistics.median(map(value, readings[third : 2 * third]))
        after = statistics.median(map(value, readings[2 * third :]))
        detail = f"{before:.0f} and {after:.0f} {unit}; first {value(readings[0]):.0f}, last {value(readings[-1]):.0f}"
        yield Figure(f"{name}: {what}, last third / second", after / before, at_most=1 + share, detail=detail)


def _left_behind(api: ApiProcess) -> list[str]:
    """Files of uploads and attempts that nobody works on any more."""
    scratch = api.settings.resolved_scratch_dir
    return [str(path.relative_to(scratch)) for path in scratch.rglob("*") if path.is_file() and path.name != "alive"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    args = parser.parse_args(arguments)
    print_table(figures(minutes=args.minutes, port=args.port))


if __name__ == "__main__":
    main()
