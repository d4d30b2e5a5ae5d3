"""Processes of this machine that train one thing together, one per accelerator: how they are started, heard and ended.

They are started anew for every training and end with it, so that whoever asks (a worker, which holds the step's lease)
has no part in their collectives: it listens, passes on what the leader reports, and kills them all when one of them is
gone. Each is a plain `python -m MODULE FOLDER RANK`: it says words of JSON, a line each, to its standard output, and ends
when its standard input does.
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
from typing import Any

import torch

from models.contracts import Progress, Stop, Stopped
from models.peak_memory import PeakMemory
from models.training_group import TrainingGroup

MEETING = "meeting.json"
"""How the processes find each other; beside it in the folder lies what their module makes of their task."""
STOP = "stop"
"""The one thing that is said to a process."""
Errors = Mapping[str, Callable[[str], Exception]]
"""Names of errors that whoever asks tells apart; all else is a RuntimeError."""


@dataclass(frozen=True)
class _Meeting:
    """What every process is started with."""

    count: int
    port: int
    threads: int
    """Threads of the processor for each."""


def processes_for(batch_size: int, most: int, *, least_each: int = 1) -> int:
    """The largest number of processes, at most so many, among which a batch is shared out evenly, so many images or
    more for each."""
    fitting = (count for count in range(2, most + 1) if batch_size % count == 0 and batch_size // count >= least_each)
    return max(fitting, default=1)


def train_together(
    module: str,
    folder: Path,
    count: int,
    *,
    progress: Progress | None,
    stop: Stop | None,
    errors: Errors,
    memory: PeakMemory | None = None,
    hear: Mapping[str, Callable[..., None]] | None = None,
) -> list[Any]:
    """Run `python -m module folder RANK` `count` times until the leader says that it is done, and return what it said.

    `memory` is told what the processes used, `hear` is what is done with the leader's other words. Raises Stopped when it stopped because `stop` said so, one of `errors`
    when a process failed of it, and RuntimeError when a process failed of something else or ended by itself.
    """
    meeting = _Meeting(count, _free_port(), max(1, torch.get_num_threads() // count))
    (folder / MEETING).write_text(json.dumps(asdict(meeting)))
    with _started([sys.executable, "-m", module, str(folder)], count) as members:
        while True:
            name, *said = members.next_words()
            if name == "asks":
                if stop is not None and stop():
                    members.tell(STOP)
            elif name == "progress":
                if progress is not None:
                    progress(*said)
            elif name == "stopped":
                raise Stopped
            elif name == "failed":
                raise errors.get(said[0], RuntimeError)(said[1])
            elif name == "done":
                num_bytes, *result = said
                if memory is not None:
                    memory.note(num_bytes if torch.cuda.is_available() else num_bytes * count)
                return result
            elif hear is not None:
                hear[name](*said)


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
def _started(command: list[str], count: int) -> Iterator[_Members]:
    """Inside, so many processes run; on leaving none does."""
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


class Asker:
    """Whoever asks, as a process of the group sees them: it hears words, and may want the training to stop."""

    def __init__(self, memory: PeakMemory) -> None:
        self._memory = memory
        self._lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what libraries print is none of our words
        self._stopping = threading.Event()
        threading.Thread(target=self._heed, daemon=True).start()

    def tell(self, *said: Any) -> None:
        """Say a word and what belongs to it, JSON-ready."""
        self._lines.write(json.dumps(said) + "\n")
        self._lines.flush()

    def done(self, *said: Any) -> None:
        """The leader's last words."""
        self.tell("done", self._memory.num_bytes(), *said)

    def hooks(self) -> dict[str, Any]:
        """What a training takes to report, and to ask whether it should stop."""

        def progress(done: int, total: int, metrics: Mapping[str, float]) -> None:
            self.tell("progress", done, total, dict(metrics))

        def stop() -> bool:
            self.tell("asks")
            return self._stopping.is_set()

        return {"progress": progress, "stop": stop}

    def _heed(self) -> None:
        """Stop when told so; end when whoever asks is gone, wherever this process waits."""
        for line in sys.stdin:
            if line.strip() == STOP:
                self._stopping.set()
        os._exit(1)


def take_part(train: Callable[[Path, TrainingGroup, Asker], None], errors: Errors) -> None:
    """The whole life of one process: `train(folder, group, asker)`, in which the leader tells the asker what is done."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # a terminal's signals are the business of whoever asks
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    meeting = _Meeting(**json.loads((folder / MEETING).read_text()))
    torch.set_num_threads(meeting.threads)
    os.environ["OMP_NUM_THREADS"] = str(meeting.threads)  # which accelerate would set to another number, and say so
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    asker = Asker(PeakMemory(device))
    try:
        train(folder, TrainingGroup(rank, meeting.count, meeting.port), asker)
    except Stopped:
        if rank == 0:  # and has written the checkpoint
            asker.tell("stopped")
    except Exception as error:
        name = type(error).__name__
        asker.tell("failed", name, str(error) if name in errors else f"{name}: {error}")
        raise
