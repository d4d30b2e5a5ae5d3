"""One structured line per event on standard error, ours and those of every library alike."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import TextIO

import orjson
import structlog

from service.settings import Settings

SERVERS = ("uvicorn", "celery")
"""Libraries that speak at the level of the settings, as we do; others only warn."""


class LineLogger:
    """Writes our lines where the handler writes those of libraries, without the records of `logging`, which cost more than the line."""

    def __init__(self, name: str, handler: logging.StreamHandler[TextIO]) -> None:
        self.name = name
        self._handler = handler

    def msg(self, line: str) -> None:
        """Write one line; a log that cannot be written (a full disk, a pipe without a reader) stops nobody's work."""
        self._handler.acquire()
        try:
            self._handler.stream.write(line + "\n")
            self._handler.flush()
        except (OSError, ValueError, RuntimeError):
            # RuntimeError: a signal's handler speaks while the line before is being written.
            pass
        finally:
            self._handler.release()

    debug = info = warning = error = critical = msg


def configure_logging(settings: Settings) -> None:
    """Log as the settings say, with whatever is bound to the context: request id, job id, step id."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(_json)]
        if settings.log_json
        else [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)]
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    handler = logging.StreamHandler(sys.stderr)
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=lambda name: LineLogger(name, handler),
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.PositionalArgumentsFormatter(), *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.captureWarnings(capture=True)
    # No line tells file, thread or process; finding them out costs as much as writing it (Python's logging HOWTO, "Optimization").
    logging._srcfile = None  # type: ignore[attr-defined]
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in SERVERS:
        logging.getLogger(name).setLevel(level)


def _json(line: structlog.typing.EventDict, default: Callable[[object], object]) -> str:
    try:
        return orjson.dumps(line, default, orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # Text that is no UTF-8 and integers of more than 64 bits: rare, and no reason to lose the line.
        return json.dumps(line, default=default)
