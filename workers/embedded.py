"""`python -m workers.embedded`: the claim loop of a service without a broker."""

import argparse
import signal
import sys
import threading
from types import FrameType

import structlog

from service.database import migrate
from service.settings import read_settings
from workers.presence import start_presence
from workers.process import WorkerProcess, start_process
from workers.reaper import start_reaper

log = structlog.get_logger(__name__)

FAREWELL_SECONDS = 5.0
"""For taking leave; a database that is away must not keep the process."""


def run(process: WorkerProcess, *, until_idle: bool = False) -> None:
    """Run steps until the process is asked to end, or until nothing is ready."""
    start_reaper(process.factory, process.shutdown)
    while not process.shutdown.is_set():
        if process.run_one():
            continue
        if until_idle:
            return
        process.shutdown.wait(process.factory.settings.poll_seconds)


def stop_on_signals(shutdown: threading.Event) -> None:
    """The first SIGTERM or SIGINT hands the step over at its next batch, the second ends at once."""

    def stop(number: int, _frame: FrameType | None) -> None:
        if shutdown.is_set():
            sys.exit(128 + number)
        shutdown.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def main() -> None:
    """Run until a signal."""
    parser = argparse.ArgumentParser(prog="workers.embedded", description=__doc__)
    parser.add_argument("--until-idle", action="store_true", help="end when no step is ready")
    options = parser.parse_args()
    process = start_process(read_settings())
    stop_on_signals(process.shutdown)
    migrate(process.factory.settings.resolved_database_url)
    log.info("worker is up", owner=process.owner)
    presence = start_presence(process.factory, process.owner, process.queues, process.shutdown)
    run(process, until_idle=options.until_idle)
    process.shutdown.set()
    presence.join(FAREWELL_SECONDS)
    process.factory.close()
    log.info("worker ends", owner=process.owner)


if __name__ == "__main__":
    main()
