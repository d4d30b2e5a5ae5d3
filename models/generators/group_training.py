"""Trains one generator in several processes of this machine, one per accelerator.

The processes are started anew for every training and end with it, so that whoever asks (a worker, which holds the step's
lease) has no part in their collectives: it listens, passes on what the leader reports, and kills them all when one of
them is gone.
"""

import os
import queue
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.contracts import Progress, Stop, Stopped
from models.generators.adapters import AdaptersMissing
from models.generators.training import GeneratorTrainConfig, GeneratorTrainResult, load_base, train_generator
from models.generators.watch import OnSamples, OnWarning
from models.training_group import TrainingGroup

LISTEN_SECONDS = 0.2
"""How soon the end of a process is noticed that could not say a word."""
PASSED_ON = (AdaptersMissing, MemoryError, ValueError)
"""What whoever asks tells apart; all else is a RuntimeError with its name and words."""


@dataclass(frozen=True)
class _Task:
    """What every process is started with."""

    folder: Path
    """Holds the images; the leader leaves the generator there."""
    config: GeneratorTrainConfig
    base_folder: Path | None
    checkpoint_path: Path | None
    count: int
    port: int
    threads: int
    """Threads of the processor for each."""
    events: Any
    """Queue of (name, arguments) to whoever asks."""
    stopping: Any
    """Event that whoever asks sets."""

    @property
    def images_path(self) -> Path:
        """The pool, which all processes map: shared memory is small in containers."""
        return self.folder / "images.npy"

    @property
    def generator_folder(self) -> Path:
        """The finished generator."""
        return self.folder / "generator"


def processes_for(batch_size: int, most: int) -> int:
    """The largest number of processes, at most so many, among which a batch is shared out evenly."""
    return max(count for count in range(1, max(1, most) + 1) if batch_size % count == 0)


def train_in_group(
    images_BCHW: Tensor,
    config: GeneratorTrainConfig,
    *,
    processes: int,
    folder: Path,
    base_folder: Path | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
    on_samples: OnSamples | None = None,
    on_warning: OnWarning | None = None,
) -> GeneratorTrainResult:
    """`train_generator` in `processes` processes, which share out every batch; the same result up to rounding.

    `folder` is an empty one for what they share. Checkpoints are those of one process, and either goes on from the
    other's. Raises what `train_generator` raises, and RuntimeError when a process ended by itself.
    """
    spawn = get_context("spawn")
    task = _Task(
        folder,
        config,
        base_folder,
        checkpoint_path,
        count=processes,
        port=_free_port(),
        threads=max(1, torch.get_num_threads() // processes),
        events=spawn.Queue(),
        stopping=spawn.Event(),
    )
    np.save(task.images_path, images_BCHW.numpy())
    listeners: dict[str, Callable[..., Any] | None] = {
        "progress": progress,
        "samples": None if on_samples is None else lambda step, samples: on_samples(step, torch.from_numpy(samples)),
        "warning": on_warning,
    }
    with _started([spawn.Process(target=_member, args=(rank, task), daemon=True) for rank in range(processes)]) as all_:
        while True:
            name, arguments = _next_event(task.events, all_)
            if name == "asks":
                if stop is not None and stop():
                    task.stopping.set()
            elif name == "stopped":
                raise Stopped
            elif name == "failed":
                raise arguments[0]
            elif name == "done":
                return _result(task, *arguments)
            elif (listener := listeners[name]) is not None:
                listener(*arguments)


def _result(task: _Task, samples_BCHW: np.ndarray, *rest: Any) -> GeneratorTrainResult:
    return GeneratorTrainResult(load_base(task.generator_folder), torch.from_numpy(samples_BCHW), *rest)


@contextmanager
def _started(members: list[BaseProcess]) -> Iterator[list[BaseProcess]]:
    """Inside, they run; on leaving none does."""
    try:
        for member in members:
            member.start()
        yield members
    finally:
        for member in members:
            if member.pid is not None:
                member.kill()
                member.join()


def _next_event(events: Any, members: list[BaseProcess]) -> tuple[str, tuple[Any, ...]]:
    """The next word of any process. Raises RuntimeError when one ended without a last word."""
    while True:
        gone = [member for member in members if member.exitcode]  # those that do not lead end well before the leader
        try:
            event: tuple[str, tuple[Any, ...]] = events.get(timeout=LISTEN_SECONDS)
        except queue.Empty:
            if gone:
                code = gone[0].exitcode
                raise RuntimeError(f"a process of the training ended by itself (exit code {code})") from None
            continue
        return event


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _member(rank: int, task: _Task) -> None:
    """What each process runs."""
    _end_with_parent()
    torch.set_num_threads(task.threads)
    os.environ["OMP_NUM_THREADS"] = str(task.threads)  # which accelerate would set to another number, and say so

    def tell(name: str, *arguments: Any) -> None:
        task.events.put((name, arguments))

    def stop() -> bool:
        tell("asks")
        return bool(task.stopping.is_set())

    try:
        group = TrainingGroup(rank, task.count, task.port)
        result = train_generator(
            torch.from_numpy(np.load(task.images_path, mmap_mode="c")),
            task.config,
            base=None if task.base_folder is None else load_base(task.base_folder, group.device),
            device=group.device,
            progress=lambda done, total, metrics: tell("progress", done, total, dict(metrics)),
            stop=stop,
            checkpoint_path=task.checkpoint_path,
            on_samples=lambda step, samples_BCHW: tell("samples", step, samples_BCHW.numpy()),
            on_warning=lambda words: tell("warning", words),
            group=group,
        )
        if group.leads:
            result.generator.save(task.generator_folder)
            tell("done", result.samples_BCHW.numpy(), result.curves, result.quality, result.warnings)
    except Stopped:
        if group.leads:  # and has written the checkpoint
            tell("stopped")
    except Exception as error:
        known = isinstance(error, PASSED_ON)
        tell("failed", error if known else RuntimeError(f"{type(error).__name__}: {error}"))
        raise


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, wherever it waits; signals of a terminal are its business."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
