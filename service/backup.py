"""`python -m service.backup FOLDER`: everything the factory has, in one folder, taken while it runs.

Rows first, objects after. All rows come from one snapshot of the database. An object is stored before the row that
names it is committed and never changes, so every object that the snapshot names exists by then; what is written later
belongs to later rows and stays out. Until the copy is done those who remove objects (the collector, the purge of what was
deleted) are held off by their own duties, so that nothing that the snapshot names is removed; only checkpoints are superseded by their workers, and a step without its
checkpoint begins anew. Every object's digest is held against the one that its row records. `backup.json` is written
last: a folder without it is no backup.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from service import duties, object_keys, purging, table_dump
from service.bootstrap import Factory, build_factory
from service.clock import read_clock
from service.collector import BATCH
from service.database import READ_ONLY, current_revision
from service.errors import Conflict, Invalid, NotFound, ServiceError
from service.logs import configure_logging
from service.references import digests, referenced
from service.settings import read_settings
from service.storage import Digest, ListedObject, StoredObject
from service.tenancy import WorkspaceSession
from service.unit_of_work import Work

FORMAT = 1
CARD = "backup.json"
OBJECT_LIST = "objects.jsonl"
OBJECTS = "objects"
TABLES = "tables"
REMOVERS = (duties.COLLECT, purging.DUTY)
"""Duties that remove objects."""
WAIT_SECONDS = 120.0
"""For one of them that is under way."""
TELL_SECONDS = 5.0

Tell = Callable[[str], None]


@dataclass
class Card:
    """What `backup.json` says."""

    format: int
    """Version of this layout."""
    made_at: str
    """When the snapshot was taken, on the database's clock."""
    label_factory: str
    """Version of the program."""
    revision: str
    """Revision of the schema."""
    rows: dict[str, int]
    """Rows of each table."""
    num_objects: int = 0
    """Objects copied."""
    num_bytes: int = 0
    """Their lengths together."""
    missing: list[str] = field(default_factory=list)
    """Objects that rows name and that the store does not have, or not as it should."""


def back_up(factory: Factory, folder: Path, tell: Tell = lambda _line: None) -> Card:
    """Copy all rows and all objects they name into a folder that is not there yet or empty.

    Raises Conflict when something is in the folder, or a removal under way does not end; StorageFull, StorageError.
    """
    if folder.exists() and any(folder.iterdir()):
        raise Conflict(f"{folder} is not empty; name a folder that is not there yet.")
    with factory.engine.connect() as connection:
        revision = current_revision(connection)
    if revision is None:
        raise Conflict("The database has no tables: there is nothing to back up. Check LABEL_FACTORY_DATABASE_URL.")
    folder.mkdir(parents=True, exist_ok=True)
    with _nothing_removed(factory) as tick:
        with _snapshot(factory) as work:
            card = _dump(work, folder, tick)
            recorded = dict(digests(work))
            named = list(_named(factory, work, tick))
        tell(f"{sum(card.rows.values())} rows of {len(card.rows)} tables; {len(named)} objects to copy")
        _copy(factory, folder, named, recorded, card, tick, tell)
    os.sync()
    (folder / CARD).write_text(json.dumps(asdict(card), indent=2) + "\n")
    if not card.missing:
        with factory.work() as work:
            duties.note_done(work, duties.BACKUP)
    return card


@contextmanager
def _snapshot(factory: Factory) -> Iterator[Work]:
    """One moment of the database, for as long as it is read; writers go on."""
    sqlite = factory.engine.dialect.name == "sqlite"
    options = READ_ONLY if sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with WorkspaceSession(factory.engine.execution_options(**options)) as session:
        yield Work(session, factory.storage, factory.settings)


@contextmanager
def _nothing_removed(factory: Factory) -> Iterator[Callable[[], None]]:
    """Hold the duties of those who remove objects; gives a function that renews them when that is due."""
    owner = f"backup:{socket.gethostname()}:{os.getpid()}"
    tokens: dict[str, int] = {}
    renewed_at = time.monotonic()

    def tick() -> None:
        nonlocal renewed_at
        if time.monotonic() - renewed_at > factory.settings.lease_seconds / 4:
            with factory.work() as work:
                for name, token in tokens.items():
                    duties.renew(work, name, token)
            renewed_at = time.monotonic()

    try:
        for name in REMOVERS:
            tokens[name] = _take(factory, name, owner, tick)
        yield tick
    finally:
        for name, token in tokens.items():
            with suppress(ServiceError), factory.work() as work:
                duties.give_back(work, name, token)


def _take(factory: Factory, name: str, owner: str, tick: Callable[[], None]) -> int:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        with factory.work() as work:
            token = duties.take(work, name, owner=owner)
        if token is not None:
            return token
        if time.monotonic() > deadline:
            raise Conflict(f"The duty {name}, or another backup, has not ended for two minutes; try again later.")
        tick()
        time.sleep(1)


def _dump(work: Work, folder: Path, tick: Callable[[], None]) -> Card:
    connection = work.session.connection()
    made_at = read_clock(work.session).isoformat()
    revision = current_revision(connection)
    return Card(
        FORMAT, made_at, version("label-factory"), str(revision), table_dump.dump(connection, folder / TABLES, tick)
    )


def _named(factory: Factory, work: Work, tick: Callable[[], None]) -> Iterator[ListedObject]:
    """Objects of the store that the snapshot's rows name, by the collector's own rules."""
    for listed in factory.storage.scan():
        for start in range(0, len(listed), BATCH):
            batch = {found.key: found for found in listed[start : start + BATCH]}
            keys = [key for key in map(object_keys.parse, batch) if key is not None]
            for key in sorted(referenced(work, keys) & set(batch)):
                yield batch[key]
            tick()


def _copy(
    factory: Factory,
    folder: Path,
    named: Sequence[ListedObject],
    recorded: dict[str, str],
    card: Card,
    tick: Callable[[], None],
    tell: Tell,
) -> None:
    card.missing += sorted(set(recorded) - {found.key for found in named})
    told_at, all_bytes = time.monotonic(), sum(found.num_bytes for found in named)

    def watched(chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal told_at
        for chunk in chunks:
            tick()
            if time.monotonic() - told_at > TELL_SECONDS:
                told_at = time.monotonic()
                tell(f"{card.num_objects} of {len(named)} objects, {card.num_bytes:,} of {all_bytes:,} bytes")
            yield chunk

    with (folder / OBJECT_LIST).open("w") as index:
        for found in named:
            try:
                stored = _write(object_path(folder, found.key), watched(factory.storage.get_stream(found.key)))
            except NotFound:
                if not object_keys.is_step_file(found.key):
                    card.missing.append(found.key)
                continue
            if recorded.get(found.key, stored.sha256) != stored.sha256:
                card.missing.append(found.key)
            index.write(json.dumps({"key": found.key, **asdict(stored)}) + "\n")
            card.num_objects += 1
            card.num_bytes += stored.num_bytes


def object_path(folder: Path, key: str) -> Path:
    """Where a backup keeps an object. Raises Invalid for a key that leads elsewhere."""
    root = (folder / OBJECTS).resolve()
    path = (root / key).resolve()
    if root not in path.parents:
        raise Invalid(f"The key {key[:200]!r} leads out of the backup.")
    return path


def _write(path: Path, chunks: Iterator[bytes]) -> StoredObject:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = Digest()
    with path.open("wb") as file:
        file.writelines(digest.passing(chunks))
    return digest.result()


def main() -> None:
    """Back up with the settings of the environment; exit code 1 when anything is missing."""
    parser = argparse.ArgumentParser(prog="service.backup", description=__doc__)
    parser.add_argument("folder", type=Path, help="not there yet, or empty")
    options = parser.parse_args()
    settings = read_settings()
    configure_logging(settings)
    factory = build_factory(settings)
    try:
        card = back_up(factory, options.folder, tell)
    except (ServiceError, OSError) as error:
        sys.exit(f"error: {error}")
    finally:
        factory.close()
    tell(f"backed up {sum(card.rows.values())} rows and {card.num_objects} objects, {card.num_bytes:,} bytes")
    for key in card.missing:
        tell(f"missing or damaged in the store: {key}")
    sys.exit(1 if card.missing else 0)


def tell(line: str) -> None:
    """One line of progress on standard error."""
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
