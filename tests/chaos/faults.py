"""Faults that a worker of these tests meets at a named point: it kills itself, or something is raised in it.

Nothing of this is known to the product: the object store is wrapped, the session's events are listened to, handlers are
wrapped in their table. A fault strikes once, whoever comes to its point first, because the file that says so is made
exclusively before it strikes.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from sqlalchemy import event
from sqlalchemy.orm import Session, sessionmaker

from service.storage import ObjectStorage, Source, StoredObject, chunks_of
from service.tables import Step
from workers.context import Outcome, StepContext
from workers.runtime import Handler

Point = Literal[
    "after_claim",
    "first_batch",
    "mid_batch",
    "mid_write",
    "after_write",
    "before_commit",
    "after_commit",
]
POINTS: tuple[Point, ...] = get_args(Point)
"""In the order in which a step comes by: `after_commit` is before the ring."""


@dataclass(frozen=True)
class Plan:
    """Where workers are killed, and where they write down what they did."""

    folder: Path
    """Files that say which faults have struck, and the trace of all batches."""
    points: Mapping[str, Point] = field(default_factory=dict)
    """Kind of step -> where the signal reaches its first worker."""
    signal: int = signal.SIGKILL
    """What that worker sends to itself."""

    def struck(self) -> list[Strike]:
        """The faults that have struck."""
        return [Strike(**json.loads(path.read_text())) for path in sorted(self.folder.glob("struck.*"))]

    def batches(self) -> list[Batch]:
        """All batches that any worker reported, in order."""
        trace = self.folder / "batches"
        lines = trace.read_text().splitlines() if trace.exists() else []
        return [Batch(*json.loads(line)) for line in lines]


@dataclass(frozen=True)
class Strike:
    """A worker that was killed."""

    kind: str
    job_id: str
    step_id: str
    at: float
    """Seconds since the epoch."""


@dataclass(frozen=True)
class Batch:
    """One report of progress."""

    kind: str
    index: int
    token: int
    message: str
    done: int


class Striker:
    """Kills this process at the planned point of the step that it runs."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.step: StepContext | None = None
        self._timer: threading.Timer | None = None
        self._reported_at = 0.0

    def reach(self, point: Point) -> None:
        """This process has come to a point."""
        if self.step is None or self.plan.points.get(self.step.step.kind) != point:
            return
        if self.first():
            os.kill(os.getpid(), self.plan.signal)

    def first(self) -> bool:
        """Whether no process has met the fault of this kind of step before; writes down that one has now."""
        assert self.step is not None
        step = self.step.step
        try:
            file = os.open(self.plan.folder / f"struck.{step.kind}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        os.write(file, json.dumps(asdict(Strike(step.kind, step.job_id, step.id, time.time()))).encode())
        return True

    def handler(self, real: Handler) -> Handler:
        """A handler that comes by its points."""

        def run(context: StepContext) -> Outcome:
            self.step, self._reported_at = context, time.monotonic()
            self.reach("after_claim")
            report = context.tracker.report

            def watched(done: int, total: int | None, metrics: Mapping[str, float], **words: Any) -> None:
                report(done, total, metrics, **words)
                message = words.get("message") or ""
                if done > 0 and not message.startswith("reading"):
                    self._batch(context, done, message)

            context.tracker.report = watched  # type: ignore[method-assign]
            outcome = real(context)
            self._end_batch()
            return outcome

        return run

    def _batch(self, context: StepContext, done: int, message: str) -> None:
        step = context.step
        with (self.plan.folder / "batches").open("a") as trace:
            trace.write(json.dumps([step.kind, step.index, step.token, message, done]) + "\n")
        self.reach("first_batch")
        self._end_batch()
        if self.plan.points.get(step.kind) == "mid_batch":
            # Half as long as the last one took; at the latest at its end.
            seconds = max((time.monotonic() - self._reported_at) / 2, 0.001)
            self._timer = threading.Timer(seconds, self.reach, ["mid_batch"])
            self._timer.daemon = True
            self._timer.start()
        self._reported_at = time.monotonic()

    def _end_batch(self) -> None:
        if self._timer is not None:
            self.reach("mid_batch")

    def listen(self, sessions: sessionmaker[Session]) -> None:
        """Come by the points around the commit that records a step's success."""

        def flushed(session: Session, _context: Any) -> None:
            if any(isinstance(row, Step) and row.state == "succeeded" for row in session.dirty):
                session.info["records a success"] = True

        def reach(point: Point, session: Session) -> None:
            if session.info.get("records a success"):
                self.reach(point)

        event.listen(sessions, "after_flush", flushed)
        event.listen(sessions, "before_commit", lambda session: reach("before_commit", session))
        event.listen(sessions, "after_commit", lambda session: reach("after_commit", session))


class StruckStorage:
    """A real object store whose writes come by the striker's points; checkpoints are written in peace."""

    def __init__(self, real: ObjectStorage, reach: Callable[[Point], None]) -> None:
        self._real, self._reach = real, reach

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def put_stream(self, key: str, source: Source) -> StoredObject:
        """Write, and come by."""
        if "checkpoint" in key:
            return self._real.put_stream(key, source)
        stored = self._real.put_stream(key, self._passing(source))
        self._reach("after_write")
        return stored

    def _passing(self, source: Source) -> Iterator[bytes]:
        for chunk in chunks_of(source):
            half = len(chunk) // 2
            yield chunk[:half]
            self._reach("mid_write")
            yield chunk[half:]
