"""Gives back what silent workers held and clears away what they left, from two threads of every worker process.

No beat, no clock of its own.
"""

import threading

import structlog

from service import steps
from service.bootstrap import Factory
from workers.collect import collect_until

log = structlog.get_logger(__name__)


def reap_until(factory: Factory, shutdown: threading.Event) -> None:
    """Reap now and every `reap_seconds`; a database that is away is tried again next time."""
    while True:
        try:
            with factory.work() as work:
                changed = steps.reap(work)
        except Exception as error:  # noqa: BLE001 - the reaper outlives every outage
            log.warning("reaping failed", error=str(error))
        else:
            if changed:
                log.info("gave steps of silent workers back", steps=changed)
        if shutdown.wait(factory.settings.reap_seconds):
            return


def start_reaper(factory: Factory, shutdown: threading.Event) -> None:
    """Reap and collect in background threads until shutdown."""
    threading.Thread(target=reap_until, args=(factory, shutdown), name="reaper", daemon=True).start()
    # A thread of its own: a million objects must not keep steps waiting.
    threading.Thread(target=collect_until, args=(factory, shutdown), name="collector", daemon=True).start()
