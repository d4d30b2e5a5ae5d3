"""`python -m workers.collect`: remove objects and scratch folders that nobody names; `--dry-run` only lists them.

Every worker process does the same from a thread, every `collect_seconds`; of a cluster one process at a time goes
through the store, and every machine looks after its own scratch folder. Loads no torch.
"""

import argparse
import sys
import threading

import structlog

from service.bootstrap import Factory, build_factory
from service.collector import Collected, collect, collect_in_turn
from service.errors import ServiceError
from service.logs import configure_logging
from service.purging import purge_in_turn
from service.settings import read_settings
from workers.scratch import remove_abandoned

LOOK_SECONDS = 60.0
"""How often a process asks whether it is time; the database knows."""

log = structlog.get_logger(__name__)


def collect_until(factory: Factory, shutdown: threading.Event) -> None:
    """Collect whenever it is time; an outage is tried again next time."""
    every_seconds = factory.settings.collect_seconds
    while not shutdown.wait(min(LOOK_SECONDS, every_seconds)):
        try:
            remove_abandoned(factory)
            purge_in_turn(factory, stop=shutdown.is_set)
            collect_in_turn(factory, every_seconds=every_seconds, stop=shutdown.is_set)
        except Exception as error:  # noqa: BLE001 - the collector outlives every outage
            log.warning("collecting failed", error=str(error))


def run(factory: Factory, *, dry_run: bool) -> int:
    """Collect once, now; the exit code: 1 when it cannot be done now or an orphan could not be removed."""
    folders = remove_abandoned(factory, dry_run=dry_run)
    found: Collected | None
    try:
        if dry_run:
            found = collect(factory, dry_run=True, on_orphan=lambda item: _say(item.key))
        else:
            purge_in_turn(factory)
            found = collect_in_turn(factory)
    except ServiceError as error:
        _say(str(error))
        return 1
    for folder in folders:
        _say(str(folder))
    if found is None:
        _say("Another process is collecting; look at its log.")
        return 1
    verb = "would be removed" if dry_run else "removed"
    _say(f"{found.num_removed} orphaned objects of {found.num_seen} {verb}, {found.num_bytes} bytes.")
    if found.num_unknown:
        _say(f"{found.num_unknown} objects have keys that are none of ours; they stay.")
    if found.num_failed:
        _say(f"{found.num_failed} orphans could not be removed; they are tried again next time.")
    return int(found.num_failed > 0)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> None:
    """Collect once with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="workers.collect", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="list what would be removed and remove nothing")
    options = parser.parse_args()
    settings = read_settings()
    configure_logging(settings)
    factory = build_factory(settings)
    try:
        code = run(factory, dry_run=options.dry_run)
    finally:
        factory.close()
    sys.exit(code)


if __name__ == "__main__":
    main()
