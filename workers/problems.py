"""What went wrong in a step, as a problem document, and whether trying again may help."""

import errno
import traceback
from typing import Any

from service.errors import ServiceError, StorageFull, UnreadableSpec
from service.formats.coco_writer import CocoExportError
from workers.device import is_out_of_memory

TRACE_LINES = 12
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
PROGRAM_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError, AssertionError, NotImplementedError)
"""What comes again however often it is tried."""


class StepError(Exception):
    """A handler's own verdict: this step cannot be done, and here is why."""

    def __init__(self, kind: str, message: str, hint: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.kind, self.message, self.hint, self.retryable = kind, message, hint, retryable


def describe(error: BaseException) -> tuple[dict[str, Any], bool]:
    """(problem, retryable): `{type, title, detail, hint}`, with a trace where the cause is unknown."""
    if isinstance(error, StepError):
        return problem(error.kind, "The step cannot be done", error.message, error.hint), error.retryable
    if is_out_of_memory(error):
        hint = "Even the smallest batch did not fit. Use smaller images, a smaller network or a larger machine."
        return problem("out-of-memory", "Not enough memory", str(error) or type(error).__name__, hint), False
    if isinstance(error, StorageFull):
        return problem(error.type, error.title, error.detail, "Free space, then retry the job."), False
    if isinstance(error, UnreadableSpec):
        hint = "Update this worker and retry the job, or ask for it anew."
        return problem(error.type, error.title, error.detail, hint), False
    if isinstance(error, ServiceError):
        hint = "Look at what the job names, then retry it."
        return problem(error.type, error.title, error.detail, hint), error.status >= 500
    if isinstance(error, CocoExportError):
        found = problem("invalid-export", "The export is not valid", str(error), "This is a fault of the exporter.")
        return {**found, "errors": error.report["problems"][:20]}, False
    if isinstance(error, OSError) and error.errno in FULL_DISK:
        hint = "Free space in the scratch folder, then retry the job."
        return problem("disk-full", "No space left", str(error), hint), False
    if isinstance(error, OSError):
        return problem(
            "io", "A file or a connection failed", f"{type(error).__name__}: {error}", "Retry the job."
        ), True
    unknown = problem("internal", "The worker failed", f"{type(error).__name__}: {error}", "The trace says where.")
    unknown["trace"] = traceback.format_exception(error)[-TRACE_LINES:]
    return unknown, not isinstance(error, PROGRAM_ERRORS)


def problem(kind: str, title: str, detail: str, hint: str) -> dict[str, Any]:
    """A problem document (RFC 9457 member names) with what to do about it."""
    return {"type": kind, "title": title, "detail": detail[:2000], "hint": hint}
