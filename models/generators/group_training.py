"""Trains one generator in several processes of this machine, one per accelerator.

The processes are started anew for every training and end with it, so that whoever asks (a worker, which holds the step's
lease) has no part in their collectives: it listens, passes on what the leader reports, and kills them all when one of
them is gone. `python -m models.generators.group_training FOLDER RANK` is one of them: it says words of JSON, a line each,
to its standard output, and ends when its standard input does.
"""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from models.contracts import Progress, Stop, Stopped
from models.generators.adapters import AdaptersMissing
from models.generators.quality import QualityReport
from models.generators.training import GeneratorTrainConfig, GeneratorTrainResult, load_base, train_generator
from models.generators.watch import OnSamples, OnWarning
from models.training_group import TrainingGroup

TASK, IMAGES, SAMPLES, GENERATOR = "task.json", "images.npy", "samples.npy", "generator"
"""What lies in the folder: all processes map the images, for shared memory is small in containers."""
STOP = "stop"
"""The one thing that is said to a process."""
ERRORS: Mapping[str, Callable[[str], Exception]] = {
    "AdaptersMissing": AdaptersMissing,
    "MemoryError": MemoryError,
    "ValueError": ValueError,
}
"""What whoever asks tells apart; all else is a RuntimeError."""


@dataclass(frozen=True)
class _Task:
    """What every process is started with."""

    config: GeneratorTrainConfig
    base_folder: Path | None
    checkpoint_path: Path | None
    count: int
    port: int
    threads: int
    """Threads of the processor for each."""


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
    threads = max(1, torch.get_num_threads() // processes)
    task = _Task(config, base_folder, checkpoint_path, processes, _free_port(), threads)
    np.save(folder / IMAGES, images_BCHW.numpy())
    (folder / TASK).write_bytes(TypeAdapter(_Task).dump_json(task))
    with _started(folder, processes) as group:
        while True:
            name, *said = group.next_words()
            if name == "asks" and stop is not None and stop():
                group.tell(STOP)
            elif name == "progress" and progress is not None:
                progress(*said)
            elif name == "samples" and on_samples is not None:
                on_samples(said[0], torch.from_numpy(np.load(folder / said[1])))
            elif name == "warning" and on_warning is not None:
                on_warning(*said)
            elif name == "stopped":
                raise Stopped
            elif name == "failed":
                raise ERRORS.get(said[0], RuntimeError)(said[1])
            elif name == "done":
                return _result(folder, *said)


def _result(
    folder: Path, curves: dict[str, list[float]], quality: dict[str, Any] | None, warnings: list[str]
) -> GeneratorTrainResult:
    report = None if quality is None else TypeAdapter(QualityReport).validate_python(quality)
    samples_BCHW = torch.from_numpy(np.load(folder / SAMPLES))
    return GeneratorTrainResult(load_base(folder / GENERATOR), samples_BCHW, curves, report, warnings)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class _Members:
    """The processes of a group, as whoever asks sees them."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.processes = processes
        self._words: queue.SimpleQueue[str | subprocess.Popen[str]] = queue.SimpleQueue()
        """Lines of all of them; of each, in the end, itself."""
        for process in processes:
            threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._words.put(line)
        self._words.put(process)

    def next_words(self) -> list[Any]:
        """The next words of any. Raises RuntimeError when one ended without a last word."""
        while True:
            words = self._words.get()
            if isinstance(words, str):
                said: list[Any] = json.loads(words)
                return said
            if code := words.wait():  # those that do not lead end well, and before the leader
                raise RuntimeError(f"a process of the training ended by itself (exit code {code})")

    def tell(self, word: str) -> None:
        """Say something to the leader."""
        leader = self.processes[0].stdin
        assert leader is not None
        leader.write(word + "\n")
        leader.flush()


@contextmanager
def _started(folder: Path, count: int) -> Iterator[_Members]:
    """Inside, so many processes run; on leaving none does."""
    command = [sys.executable, "-m", __name__, str(folder)]
    processes: list[subprocess.Popen[str]] = []
    try:
        for rank in range(count):
            member = [*command, str(rank)]
            processes.append(subprocess.Popen(member, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        yield _Members(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()


def _run(folder: Path, rank: int, words: IO[str], stopping: threading.Event) -> None:
    """What each process does; the leader alone has something to say, unless something is wrong."""
    task = TypeAdapter(_Task).validate_json((folder / TASK).read_bytes())
    torch.set_num_threads(task.threads)
    os.environ["OMP_NUM_THREADS"] = str(task.threads)  # which accelerate would set to another number, and say so

    def tell(*said: Any) -> None:
        words.write(json.dumps(said) + "\n")
        words.flush()

    def stop() -> bool:
        tell("asks")
        return stopping.is_set()

    def show(step: int, samples_BCHW: Tensor) -> None:
        name = f"samples-{step}.npy"
        np.save(folder / name, samples_BCHW.numpy())
        tell("samples", step, name)

    try:
        group = TrainingGroup(rank, task.count, task.port)
        result = train_generator(
            torch.from_numpy(np.load(folder / IMAGES, mmap_mode="c")),
            task.config,
            base=None if task.base_folder is None else load_base(task.base_folder, group.device),
            device=group.device,
            progress=lambda done, total, metrics: tell("progress", done, total, dict(metrics)),
            stop=stop,
            checkpoint_path=task.checkpoint_path,
            on_samples=show,
            on_warning=lambda warning: tell("warning", warning),
            group=group,
        )
        if group.leads:
            result.generator.save(folder / GENERATOR)
            np.save(folder / SAMPLES, result.samples_BCHW.numpy())
            quality = None if result.quality is None else asdict(result.quality)
            tell("done", result.curves, quality, result.warnings)
    except Stopped:
        if group.leads:  # and has written the checkpoint
            tell("stopped")
    except Exception as error:
        name = type(error).__name__
        tell("failed", name, str(error) if name in ERRORS else f"{name}: {error}")
        raise


def _heed(asker: IO[str], stopping: threading.Event) -> None:
    """Stop when told so; end when whoever asks is gone, wherever this process waits."""
    for line in asker:
        if line.strip() == STOP:
            stopping.set()
    os._exit(1)


def main() -> None:
    """One process of a group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's signals are the business of whoever asks
    words = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is none of our words
    stopping = threading.Event()
    threading.Thread(target=_heed, args=(sys.stdin, stopping), daemon=True).start()
    _run(Path(sys.argv[1]), int(sys.argv[2]), words, stopping)


if __name__ == "__main__":
    main()
