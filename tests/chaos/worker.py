"""Worker processes of these tests: the real claim loop, forked from a process that has loaded torch and computed nothing.

A fork costs milliseconds where a new process would load torch for seconds. It is sound because the parent has no other
thread, which every child checks.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from models.training import FitConfig
from service.bootstrap import Factory, build_factory
from service.logs import configure_logging
from service.settings import Settings
from service.storage import open_storage
from tests.chaos.faults import Plan, Striker, StruckStorage
from workers import checkpoint, embedded, label_shard
from workers.device import limit_threads
from workers.handlers import HANDLERS
from workers.process import WorkerProcess

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.chaos.worker"])

BUSY = 5
"""So many times slower than an idle machine may be one that others use too."""

Prepare = Callable[[Striker, Factory], None]
"""What else shall be different in the worker; a function of a module, for it is sent by its name."""


def run_worker(settings: Settings, plan: Plan, log: Path, prepare: Prepare | None) -> None:
    """The life of a worker process."""
    assert len(os.listdir("/proc/self/task")) == 1, "forked from a process that has threads"
    # What was loaded before the fork is no garbage: to look through it, page after page is copied.
    gc.freeze()
    with log.open("ab", 0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    configure_logging(settings)
    limit_threads(1)
    striker = Striker(plan)
    factory = build_factory(settings, storage=StruckStorage(open_storage(settings), striker.reach))
    striker.listen(factory.sessions)
    _checkpoint_every_batch()
    for kind, handler in HANDLERS.items():
        HANDLERS[kind] = striker.handler(handler)
    if prepare is not None:
        prepare(striker, factory)
    process = WorkerProcess(factory, f"{os.getpid()}")
    embedded.stop_on_signals(process.shutdown)
    embedded.run(process)


def _checkpoint_every_batch() -> None:
    """Trainings save every few seconds, and every half minute to the store; these are over sooner."""
    checkpoint.UPLOAD_SECONDS = 0.0
    real = FitConfig.__post_init__

    def quick(self: FitConfig) -> None:
        real(self)
        object.__setattr__(self, "checkpoint_seconds", 0.0)
        object.__setattr__(self, "report_every", 1)

    FitConfig.__post_init__ = quick  # type: ignore[method-assign]


def small_batches(_striker: Striker, _factory: Factory) -> None:
    """Two images at once, so that a small shard has several batches."""
    label_shard.inference_batch = lambda *_: 2


@dataclass
class Fleet:
    """Worker processes under a supervisor that starts again what dies."""

    settings: Settings
    plan: Plan
    size: int = 1
    prepare: Prepare | None = small_batches
    processes: list[BaseProcess] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    """Exit codes of processes that ended; negative: the signal that killed them."""

    def __enter__(self) -> Fleet:
        self.tend()
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid or 0, signal.SIGCONT)
            process.kill()
            process.join()

    @property
    def log(self) -> Path:
        """What all workers write."""
        return self.plan.folder / "workers.log"

    def tend(self) -> None:
        """Start what is missing."""
        for process in [process for process in self.processes if not process.is_alive()]:
            self.exits.append(process.exitcode or 0)
            self.processes.remove(process)
        while len(self.processes) < self.size:
            arguments = (self.settings, self.plan, self.log, self.prepare)
            process = CONTEXT.Process(target=run_worker, args=arguments, daemon=True)
            process.start()
            self.processes.append(process)

    def batches_after(self, count: int) -> Callable[[], bool]:
        """Whether more than so many batches were done."""
        return lambda: len(self.plan.batches()) > count

    def tend_until(
        self, done: Callable[[], bool], *, seconds: float, each: Callable[[], object] | None = None
    ) -> float:
        """Look after the workers until something is true; returns how long that took. `seconds` is an idle machine's."""
        started = time.monotonic()
        while not done():
            assert time.monotonic() - started < BUSY * seconds, f"it did not happen: {self.log.read_text()[-4000:]}"
            self.tend()
            if each is not None:
                each()
            time.sleep(0.05)
        return time.monotonic() - started
