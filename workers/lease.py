"""Holds a claimed step: renews its lease from a thread of its own and knows when the work must stop.

Not from the computing thread: one long call into torch must not lose the lease. A call that never ends must: a step that
gives no sign of life for `stall_seconds` is recorded as failed, and the process, whose thread cannot be stopped, ends.
"""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from enum import StrEnum
from types import TracebackType

import structlog

from service import steps
from service.bootstrap import Factory
from service.steps import ClaimedStep, Progress
from workers.problems import problem

STALLED_EXIT = 75
"""Exit code of a process whose step gave no sign of life; its supervisor starts another."""

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
        self._alive_at = time.monotonic()
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
        """Why the work must stop, or None while it may go on; asking is a sign of life."""
        self._alive_at = time.monotonic()
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
        seen = None
        while not self._done.wait(pause):
            progress = self._snapshot()
            if progress != seen:
                seen, self._alive_at = progress, time.monotonic()
            if time.monotonic() - self._alive_at > settings.stall_seconds:
                self._end_stalled()
            due = time.monotonic() - self._beaten_at >= settings.heartbeat_seconds
            if self._reason is StopReason.LOST:
                continue  # nothing to renew; that the handler notices is still watched
            if due or progress != self._shown:
                self._beat(progress)
            elif self._reason is None:
                self._look()

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

    def _look(self) -> None:
        """Between two beats: whoever cancels must not wait for the next one, and a look writes nothing."""
        with suppress(Exception), self._factory.read() as work:
            if steps.is_stopping(work, self._step.job_id):
                self._reason = StopReason.CANCELLED

    def _end_stalled(self) -> None:
        seconds = self._factory.settings.stall_seconds
        log.error("the step hangs; this process ends", seconds=seconds)
        detail = f"The step gave no sign of life for {seconds:.0f} seconds; its process was ended."
        hint = "If it was only slow, raise LABEL_FACTORY_STALL_SECONDS and retry the job."
        # Whatever comes of the record: the lease runs out, and the attempt counts.
        with suppress(Exception), self._factory.work() as work:
            found = problem("stalled", "The step hangs", detail, hint)
            steps.record_failure(work, self._step.id, self._step.token, found, retryable=True)
        os._exit(STALLED_EXIT)

    def _missed(self, error: Exception) -> None:
        silence = time.monotonic() - self._renewed_at
        log.warning("heartbeat failed", silence=round(silence, 1), error=str(error))
        if silence >= self._factory.settings.lease_seconds:
            self._reason = StopReason.LOST
