"""Do four workers do four times the work of one, on a job of 1,000 shards?

`python -m benchmarks.load.many_shards` makes the job on SQLite and a folder and runs it with real worker processes whose labelling
sleeps ([sleeping_worker.py](sleeping_worker.py)): first one worker for some shards, then four for the rest. Rates are
counted while all of them work.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from benchmarks.load.api_process import environment, stop
from benchmarks.load.sleeping_worker import SECONDS, SIDE
from benchmarks.paired import Figure, print_table
from service import annotation_sets, jobs
from service.annotation_sets import NewAnnotationSet
from service.bootstrap import Factory, build_factory, prepare
from service.job_spec import parse
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID, Generator, Job, Step

CLASSES = [
    {"name": "background", "thing": False, "color": "#000000", "background": True},
    {"name": "cell", "thing": False, "color": "#ff0000", "background": False},
]
SHARD_IMAGES = 2
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Done:
    """A shard that somebody has labelled."""

    owner: str
    started_at: datetime
    finished_at: datetime


def figures(*, shards: int = 1_000, alone: int = 100, workers: int = 4, shard_seconds: float = 0.25) -> list[Figure]:
    """The ratio, and whether each shard was labelled once."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder) / "data", shard_size=SHARD_IMAGES)
        unbound = build_factory(settings)
        prepare(unbound)
        factory = unbound.within(DEFAULT_WORKSPACE_ID)
        document = job_document(factory, shards)
        with factory.work() as work:
            job_id = jobs.create(work, parse(document)).job.id
        with running_workers(settings, 1, shard_seconds, Path(folder)):
            _await(factory, job_id, alone + 1)
        one = _done(factory, job_id)
        with running_workers(settings, workers, shard_seconds, Path(folder)):
            _await(factory, job_id, shards)
            _await_end(factory, job_id)
        many = [done for done in _done(factory, job_id) if done not in one]
        with factory.read() as work:
            attempts = work.session.scalar(select(func.sum(Step.attempt)).where(Step.kind == "label_shard"))
        factory.close()
    rates = _rate(one), _rate(many)
    detail = f"{rates[0]:.2f} and {rates[1]:.2f} shards/s; a shard sleeps {shard_seconds} s"
    return [
        Figure(
            f"{workers} workers / {workers} x one worker, {shards:,} shards",
            rates[1] / workers / rates[0],
            at_least=0.9,
            detail=detail,
        ),
        Figure(
            "attempts for each shard",
            (attempts or 0) / shards,
            at_most=1.01,
            detail="one was handed over by the first worker",
        ),
    ]


def job_document(factory: Factory, shards: int) -> dict[str, Any]:
    """A job of so many shards that stops at the dataset; nothing of what it refers to is ever opened."""
    new = NewAnnotationSet("few", "semantic", CLASSES, 5, SIDE, SIDE, {})
    with factory.work() as work:
        generator = Generator(
            id="gen_01kaxv5t8q3m6n9p2r4s7t0v1w",
            name="sleeping",
            state="ready",
            family="unet_diffusion",
            image_height=SIDE,
            image_width=SIDE,
            image_channels=3,
            num_parameters=1,
            digest="0" * 64,
            card={},
            key_prefix="generators/sleeping/1/",
        )
        work.session.add(generator)
        work.session.flush()
        return {
            "kind": "label",
            "generator": generator.id,
            "annotation_set_id": annotation_sets.create(work, new, io.BytesIO(b"a tar")).id,
            "num_images": shards * SHARD_IMAGES,
            "stop_after": "dataset",
        }


@contextmanager
def running_workers(settings: Settings, count: int, shard_seconds: float, folder: Path) -> Iterator[list[int]]:
    """So many sleeping workers; gives their process ids."""
    command = [sys.executable, "-m", "benchmarks.load.sleeping_worker"]
    told = {**environment(settings), SECONDS: str(shard_seconds)}
    with (folder / "workers.log").open("ab") as log:
        started = [subprocess.Popen(command, env=told, stdout=log, stderr=log) for _ in range(count)]
    try:
        yield [process.pid for process in started]
    finally:
        stop(*started)


def _await(factory: Factory, job_id: str, count: int) -> None:
    while len(_done(factory, job_id)) < count:
        _require_well(factory, job_id)
        time.sleep(POLL_SECONDS)


def _await_end(factory: Factory, job_id: str) -> None:
    while _require_well(factory, job_id) != "succeeded":
        time.sleep(POLL_SECONDS)


def _require_well(factory: Factory, job_id: str) -> str:
    with factory.read() as work:
        job = work.session.get_one(Job, job_id)
    if job.state == "failed":
        raise RuntimeError(f"the job failed: {job.error}")
    return job.state


def _done(factory: Factory, job_id: str) -> list[Done]:
    query = select(Step.owner, Step.started_at, Step.finished_at).where(
        Step.job_id == job_id, Step.kind == "label_shard", Step.state == "succeeded"
    )
    with factory.read() as work:
        return [Done(*row) for row in work.session.execute(query)]


def _rate(done: list[Done]) -> float:
    """Shards a second while all who took part were at work."""
    owners = {one.owner for one in done}
    begin = max(min(one.finished_at for one in done if one.owner == owner) for owner in owners)
    end = min(max(one.finished_at for one in done if one.owner == owner) for owner in owners)
    return sum(begin < one.finished_at <= end for one in done) / (end - begin).total_seconds()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=1_000)
    parser.add_argument("--alone", type=int, default=100, help="shards that one worker labels first")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--shard-seconds", type=float, default=0.25, help="what labelling a shard takes")
    args = parser.parse_args(arguments)
    print_table(figures(**vars(args)))


if __name__ == "__main__":
    main()
