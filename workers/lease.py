"""Holds a claimed step: renews its lease from a thread of its own and knows when the work must stop.

Not from the computing thread: one long call into torch must not lose the lease.
"""

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from enum import StrEnum
from types import TracebackType

import structlog

from service import steps
from service.bootstrap import Factory
from service.steps import ClaimedStep, Progress

log = structlog.get_logger(__name__)


class StopReason(StrEnum):
    """Why a handler is asked to stop at its next batch."""

    CANCELLED = "cancelled"
    """The job was cancelled or failed elsewhere."""
    LOST = "lost"
    """The step belongs to another worker, or the database was silent for a whole lease; nothing may be recorded."""
    SHUTDOWN = "shutdown"
    """This process is going away; somebody else goes on from the checkpoint."""


class Lease:
    """A context manager around the work on one step."""

    def __init__(
        self, factory: Factory, step: ClaimedStep, snapshot: Callable[[], Progress | None], shutdown: threading.Event
    ) -> None:
        self._factory, self._step, self._snapshot, self._shutdown = factory, step, snapshot, shutdown
        self._reason: StopReason | None = None
        self._renewed_at = time.monotonic()
        self._beaten_at = time.monotonic()
        self._shown: Progress | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(
            # With the ids that are bound to the log.
            target=copy_context().run,
            args=(self._run,),
            name=f"lease-{step.id}",
            daemon=True,
        )

    def stop_reason(self) -> StopReason | None:
        """Why the work must stop, or None while it may go on."""
        if self._reason is None and self._shutdown.is_set():
            return StopReason.SHUTDOWN
        return self._reason

    def __enter__(self) -> "Lease":
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join(timeout=self._factory.settings.lease_seconds)

    def _run(self) -> None:
        settings = self._factory.settings
        pause = min(settings.heartbeat_seconds, max(settings.progress_event_seconds, 0.1))
        while not self._done.wait(pause) and self._reason is not StopReason.LOST:
            progress = self._snapshot()
            due = time.monotonic() - self._beaten_at >= settings.heartbeat_seconds
            if due or progress != self._shown:
                self._beat(progress)

    def _beat(self, progress: Progress | None) -> None:
        self._beaten_at = time.monotonic()
        try:
            with self._factory.work() as work:
                answer = steps.heartbeat(work, self._step.id, self._step.token, progress=progress)
        except Exception as error:  # noqa: BLE001 - whatever the database says, the lease decides
            self._missed(error)
            return
        # From before the call: the database counts the lease from some moment after that.
        self._renewed_at, self._shown = self._beaten_at, progress
        if not answer.alive:
            self._reason = StopReason.LOST
        elif answer.cancel_requested:
            self._reason = StopReason.CANCELLED

    def _missed(self, error: Exception) -> None:
        silence = time.monotonic() - self._renewed_at
        log.warning("heartbeat failed", silence=round(silence, 1), error=str(error))
        if silence >= self._factory.settings.lease_seconds:
            self._reason = StopReason.LOST
