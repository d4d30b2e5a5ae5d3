"""What a handler may use: its step, a scratch folder, progress, the wish to stop, objects and rows."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from models.contracts import Progress as ReportProgress
from models.contracts import Stopped
from models.group_processes import processes_for
from models.peak_memory import PeakMemory
from service import events, object_keys
from service.bootstrap import Factory
from service.job_spec import LabelSpec, TrainGeneratorSpec
from service.steps import ClaimedStep
from service.storage import Source, StoredObject
from service.unit_of_work import Work
from workers.checkpoint import Checkpoint
from workers.device import training_processes
from workers.lease import StopReason
from workers.progress import ProgressTracker


@dataclass(frozen=True)
class Outcome:
    """What a finished handler hands over to be recorded."""

    output: Mapping[str, Any]
    """Kept in the step's row; later steps read it."""
    record: Callable[[Work], None] = field(default=lambda _work: None)
    """Writes rows in the transaction that records the step; undone with it when the lease was lost."""


@dataclass(frozen=True)
class StepContext:
    """Everything around one attempt at one step."""

    factory: Factory
    """Settings, database, objects."""
    step: ClaimedStep
    """What is to be done, with the token that belongs into object keys."""
    scratch: Path
    """A folder of this attempt alone; gone afterwards."""
    checkpoint: Checkpoint
    """What survives this attempt."""
    device: torch.device
    """Where to compute."""
    tracker: ProgressTracker
    """Takes progress reports."""
    stop_reason: Callable[[], StopReason | None]
    """Why to stop, or None."""
    memory: PeakMemory
    """Takes what processes of this step used beside this one."""

    @property
    def label_spec(self) -> LabelSpec:
        """The spec of a `label` job."""
        assert isinstance(self.step.spec, LabelSpec)
        return self.step.spec

    @property
    def train_generator_spec(self) -> TrainGeneratorSpec:
        """The spec of a `train_generator` job."""
        assert isinstance(self.step.spec, TrainGeneratorSpec)
        return self.step.spec

    def stop(self) -> bool:
        """Whether to stop at this batch."""
        return self.stop_reason() is not None

    def check(self) -> None:
        """Raise Stopped when asked to stop."""
        if self.stop():
            raise Stopped

    def progress(
        self,
        done: int,
        total: int | None,
        metrics: Mapping[str, float] | None = None,
        *,
        unit: str = "steps",
        message: str | None = None,
    ) -> None:
        """Show how far the step is."""
        self.tracker.report(done, total, metrics or {}, unit=unit, message=message)

    def say(self, message: str) -> None:
        """Show what the step is doing now."""
        self.tracker.say(message)

    def reporter(self, message: str, unit: str = "steps") -> ReportProgress:
        """A progress function for `models`; files at the checkpoint are mirrored now and then on the way."""

        def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
            self.progress(done, total, metrics, unit=unit, message=message)
            self.checkpoint.save_if_due()

        return report

    def open_work(self) -> AbstractContextManager[Work]:
        """A transaction that commits on exit."""
        return self.factory.work()

    def read(self) -> AbstractContextManager[Work]:
        """A transaction that only reads."""
        return self.factory.read()

    def key(self, name: str) -> str:
        """Object key of a file this attempt leaves."""
        return object_keys.step_file(self.step.id, self.step.token, name)

    def put(self, key: str, source: Source) -> StoredObject:
        """Store a stream."""
        return self.factory.storage.put_stream(key, source)

    def put_file(self, key: str, path: Path) -> StoredObject:
        """Store a file."""
        with path.open("rb") as file:
            return self.factory.storage.put_stream(key, file)

    def get(self, key: str) -> Iterator[bytes]:
        """Read an object chunk by chunk."""
        return self.factory.storage.get_stream(key)

    def get_file(self, key: str, path: Path) -> Path:
        """Bring an object into a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.writelines(self.get(key))
        return path

    def sharing(self, batch_size: int, *, least_each: int = 1) -> dict[str, Any]:
        """What a training in several processes is given beside what one takes: their number, so many images of a batch or
        more for each, a folder and who is told of their memory. Nothing where one process trains; else the job's log says so.
        """
        count = processes_for(batch_size, training_processes(self.factory.settings), least_each=least_each)
        if count == 1:
            return {}
        self.log(f"{count} processes share every batch of {batch_size} images")
        folder = Path(tempfile.mkdtemp(dir=self.scratch, prefix="group-"))
        return {"processes": count, "folder": folder, "memory": self.memory}

    def show_sample(self, name: str, png: bytes, caption: str) -> str:
        """Store a picture and tell whoever watches the job; returns its key."""
        key = self.key(name)
        self.put(key, [png])
        with self.open_work() as work:
            events.sample(work, self.step.job_id, self.step.id, key, caption=caption)
        return key

    def log(self, message: str, **data: Any) -> None:
        """One line in the job's log; a line that cannot be written stops nothing."""
        with suppress(Exception), self.open_work() as work:
            events.log(work, self.step.job_id, self.step.id, message, **data)
