"""The Celery app: one task, "look at the database until nothing is ready". `celery -A workers.celery_app worker -Q gpu`.

The main process of a worker only listens and reaps; torch is loaded in the child that computes.
"""

import importlib
import os
import signal
import threading
from typing import Any

from billiard.process import active_children
from celery import Celery, signals

from service.bootstrap import build_factory
from service.doorbell import RING_TASK, celery_options
from service.logs import configure_logging
from service.settings import read_settings
from workers.reaper import start_reaper

HAND_OVER = signal.SIGUSR2
"""From the main process to its children: stop at the next batch. They ignore SIGTERM's usual meaning in Celery."""


QUEUES_VARIABLE = "CELERY_WORKER_QUEUES"
"""Environment of the children: the queues that the main process listens to, which Celery does not tell them."""

_shutdown = threading.Event()
"""Ends the reaper of the main process."""


class _Child:
    """The process that computes: made once, after it was spawned."""

    process: Any = None


app = Celery("label_factory", broker=read_settings().broker_url or None, set_as_current=False)
app.conf.update(celery_options())
app.conf.update(
    # Most rings find nothing: counting them would restart the child, and load torch again, for no reason.
    worker_max_tasks_per_child=None,
    worker_redirect_stdouts=False,
)


def ring(queue: str) -> None:
    """Run steps of a queue until none is ready. Losing, doubling or delaying this message is harmless."""
    while _Child.process is not None and _Child.process.run_one([queue]):
        pass


def _configure_logging(**_: Any) -> None:
    configure_logging(read_settings())


def _start_child(**_: Any) -> None:
    # Not imported above: the main process would load torch and hold it for nothing.
    queues = os.environ[QUEUES_VARIABLE].split(",")
    process = importlib.import_module("workers.process").start_process(read_settings(), queues)
    _Child.process = process
    signal.signal(HAND_OVER, lambda *_: process.shutdown.set())
    presence = importlib.import_module("workers.presence")
    presence.start_presence(process.factory, process.owner, process.queues, process.shutdown)


def _tell_queues(instance: Any, **_: Any) -> None:
    os.environ[QUEUES_VARIABLE] = ",".join(instance.app.amqp.queues.consume_from)


def _start_main(**_: Any) -> None:
    start_reaper(build_factory(read_settings()), _shutdown)


def _hand_over(**_: Any) -> None:
    _shutdown.set()
    for child in active_children():
        if child.pid:
            os.kill(child.pid, HAND_OVER)


app.task(name=RING_TASK, ignore_result=True)(ring)
# A receiver of this signal is all that keeps Celery from setting up logging of its own.
signals.setup_logging.connect(_configure_logging)
signals.celeryd_after_setup.connect(_tell_queues)
signals.worker_process_init.connect(_start_child)
signals.worker_ready.connect(_start_main)
signals.worker_shutting_down.connect(_hand_over)
