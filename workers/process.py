"""What a worker process is made of: factory, handlers, its name, and the wish to end."""

import os
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from service.bootstrap import Factory, build_factory
from service.doorbell import QUEUES
from service.logs import configure_logging
from service.settings import Settings
from workers.device import limit_threads
from workers.handlers import HANDLERS
from workers.runtime import run_next_step

KEPT_CONNECTIONS = 2
"""To the database: the step's and its lease's. Other threads open one when both are in use, and close it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class WorkerProcess:
    """One process that runs steps, one at a time."""

    factory: Factory
    """Database, objects, settings."""
    owner: str
    """Name in the rows of the steps it holds."""
    queues: Sequence[str] = QUEUES
    """Queues it takes steps from."""
    shutdown: threading.Event = field(default_factory=threading.Event)
    """Set by a signal: stop at the next batch, give the step back, end."""

    def run_one(self, queues: Sequence[str] = ()) -> bool:
        """Run one step; False when there is none or the process is to end. Never raises: a worker outlives its steps."""
        if self.shutdown.is_set():
            return False
        try:
            return run_next_step(
                self.factory, self.owner, HANDLERS, queues=queues or self.queues, shutdown=self.shutdown
            )
        except Exception:
            # Neither claim nor record reached the database. The lease runs out, and the step is taken up again.
            log.exception("the database did not answer")
            self.shutdown.wait(self.factory.settings.poll_seconds)
            return False


def start_process(settings: Settings, queues: Sequence[str] = QUEUES) -> WorkerProcess:
    """Make the process's parts; call once, in the process that computes."""
    configure_logging(settings)
    # Their bars are for terminals; here they would fill the log.
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    limit_threads(settings.torch_threads)
    factory = build_factory(settings, kept_connections=KEPT_CONNECTIONS)
    return WorkerProcess(factory, f"{socket.gethostname()}:{os.getpid()}", queues)
