"""Runs one step: claim, hold the lease, call the handler, record what came of it in one transaction."""

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog

from models.contracts import Stopped
from models.peak_memory import PeakMemory
from service import events, steps
from service.bootstrap import Factory
from service.doorbell import QUEUES
from service.errors import LeaseLost, ServiceError
from service.steps import ClaimedStep
from workers.checkpoint import Checkpoint
from workers.context import Outcome, StepContext
from workers.device import choose_device, give_memory_back, is_out_of_memory
from workers.lease import Lease, StopReason
from workers.problems import StepError, describe
from workers.progress import ProgressTracker
from workers.scratch import attempt_folder

Handler = Callable[[StepContext], Outcome]

log = structlog.get_logger(__name__)


def run_next_step(
    factory: Factory,
    owner: str,
    handlers: Mapping[str, Handler],
    *,
    queues: Sequence[str] = QUEUES,
    shutdown: threading.Event | None = None,
) -> bool:
    """Claim the most urgent step and run it to its record; False when there is none."""
    with factory.work() as work:
        step = steps.claim(work, queues=queues, owner=owner)
        if step is not None:
            # One ring wakes one worker; whoever finds work wakes the next.
            work.ring(step.queue)
    if step is None:
        return False
    with structlog.contextvars.bound_contextvars(
        job_id=step.job_id, step_id=step.id, kind=step.kind, index=step.index, attempt=step.attempt
    ):
        _Attempt(factory, step, shutdown or threading.Event()).run(handlers)
    return True


class _Attempt:
    """One attempt at one step."""

    def __init__(self, factory: Factory, step: ClaimedStep, shutdown: threading.Event) -> None:
        self.factory, self.step = factory, step
        self.scratch = attempt_folder(factory.settings, step.id, step.token)
        self.tracker = ProgressTracker()
        self.lease = Lease(factory, step, self.tracker.snapshot, shutdown)
        self.checkpoint = Checkpoint(factory, step, self.scratch / "checkpoint")
        self.device = choose_device()
        self.memory = PeakMemory(self.device)

    def run(self, handlers: Mapping[str, Handler]) -> None:
        started = time.monotonic()
        log.info("step begins")
        try:
            with self.lease:
                ending = self._run_handler(handlers)
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        log.info("step ends", ending=ending, seconds=round(time.monotonic() - started, 2))

    def _run_handler(self, handlers: Mapping[str, Handler]) -> str:
        try:
            self._prepare()
            if self.step.kind not in handlers:
                raise StepError("unknown-step", f"This worker knows no step {self.step.kind}.", "Update the worker.")
            outcome = handlers[self.step.kind](self._context())
        except Stopped:
            return self._stopped()
        except LeaseLost:
            return StopReason.LOST
        except SystemExit as error:
            if self.lease.stop_reason() is StopReason.SHUTDOWN:
                raise  # the second signal: end at once
            return self._failed(error)
        except Exception as error:  # noqa: BLE001 - the edge: every failure becomes a recorded problem
            return self._failed(error)
        return self._succeeded(outcome)

    def _prepare(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.scratch).free
        if free < self.factory.settings.min_free_bytes:
            hint = f"Free space at {self.scratch.parent} or lower LABEL_FACTORY_MIN_FREE_BYTES, then retry the job."
            raise StepError("disk-full", f"Only {free >> 20} MiB are free in the scratch folder.", hint)
        self.checkpoint.restore()

    def _context(self) -> StepContext:
        return StepContext(
            factory=self.factory,
            step=self.step,
            scratch=self.scratch,
            checkpoint=self.checkpoint,
            device=self.device,
            tracker=self.tracker,
            stop_reason=self.lease.stop_reason,
            memory=self.memory,
        )

    def _succeeded(self, outcome: Outcome) -> str:
        try:
            with self.factory.work() as work:
                # The job's lock comes first in every transaction that touches its steps.
                events.lock_job(work, self.step.job_id)
                steps.heartbeat(work, self.step.id, self.step.token, progress=self.tracker.snapshot())
                outcome.record(work)
                steps.record_success(
                    work, self.step.id, self.step.token, outcome.output, peak_memory_bytes=self.memory.num_bytes()
                )
        except LeaseLost:
            return StopReason.LOST
        except Exception as error:  # noqa: BLE001 - what cannot be recorded is a failure like any other
            return self._failed(error)
        self.checkpoint.discard()
        return "succeeded"

    def _stopped(self) -> str:
        reason = self.lease.stop_reason() or StopReason.SHUTDOWN
        if reason is StopReason.LOST:
            return reason
        self._keep_checkpoint()
        record = steps.record_cancelled if reason is StopReason.CANCELLED else steps.release
        with suppress(LeaseLost), self.factory.work() as work:
            record(work, self.step.id, self.step.token)
        return reason

    def _failed(self, error: BaseException) -> str:
        problem, retryable = describe(error)
        log.error(
            "step failed", exc_info=None if isinstance(error, StepError) else error, retryable=retryable, **problem
        )
        if is_out_of_memory(error):
            error.__traceback__ = None
            give_memory_back()
        self._keep_checkpoint()
        with suppress(LeaseLost), self.factory.work() as work:
            steps.record_failure(
                work,
                self.step.id,
                self.step.token,
                problem,
                retryable=retryable,
                peak_memory_bytes=self.memory.num_bytes(),
            )
        return "failed"

    def _keep_checkpoint(self) -> None:
        """Whatever the reason for stopping, the work done so far is worth keeping; it must not hide the reason."""
        with suppress(ServiceError, OSError):
            self.checkpoint.save()
