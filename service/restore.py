"""`python -m service.restore FOLDER`: a backup into an empty place, SQLite and a folder or PostgreSQL and S3.

Objects first, rows after, as everywhere: a restore that is cut leaves objects without rows and a database without
tables, never rows without their objects. The schema is made at the backup's own revision, filled, and then brought to
this release's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import inspect

from service import table_dump
from service.backup import CARD, FORMAT, OBJECT_LIST, TABLES, TELL_SECONDS, Tell, object_path, tell
from service.bootstrap import Factory, build_factory
from service.database import knows_revision, migrate
from service.errors import Conflict, Invalid, NotFound, ServiceError
from service.logs import configure_logging
from service.settings import read_settings
from service.storage import ObjectStorage


def restore(factory: Factory, folder: Path, tell: Tell = lambda _line: None) -> dict[str, Any]:
    """Put a backup back; returns its card. Raises Invalid for what is no sound backup, Conflict for a place not empty."""
    card = _read_card(folder)
    _require_empty(factory)
    _put_objects(factory.storage, folder, int(card["num_objects"]), tell)
    url = factory.settings.resolved_database_url
    migrate(url, str(card["revision"]))
    with factory.engine.begin() as connection:
        rows = table_dump.load(connection, folder / TABLES)
        if rows != card["rows"]:
            raise Invalid(f"The backup in {folder} has not the rows that {CARD} tells; take another one.")
    migrate(url)
    tell(f"restored {sum(rows.values())} rows and {card['num_objects']} objects, made at {card['made_at']}")
    return card


def _read_card(folder: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text())
    except (OSError, ValueError):
        raise Invalid(f"{folder} is not a whole backup: it has no {CARD}, which is written last.") from None
    if card.get("format") != FORMAT or not knows_revision(str(card.get("revision"))):
        raise Invalid(
            f"The backup was made by Label Factory {card.get('label_factory')}, which this release does not know; "
            "install that one or a newer one."
        )
    return card


def _require_empty(factory: Factory) -> None:
    tables = inspect(factory.engine).get_table_names()
    if tables:
        raise Conflict(
            f"The database already has tables ({', '.join(sorted(tables)[:3])}, ...); a backup is restored into an empty "
            "place only. Choose another --data, or other LABEL_FACTORY_DATABASE_URL and LABEL_FACTORY_STORAGE_URL."
        )
    try:
        first = next((batch for batch in factory.storage.scan() if batch), None)
    except NotFound:
        return
    if first is not None:
        raise Conflict(
            f"The object store already has objects ({first[0].key}, ...); a backup is restored into an empty place only. "
            "Choose another --data or LABEL_FACTORY_STORAGE_URL, or remove what a restore that was cut left there."
        )


def _put_objects(storage: ObjectStorage, folder: Path, number: int, tell: Tell) -> None:
    told_at, done = time.monotonic(), 0
    for wanted in _listed(folder / OBJECT_LIST):
        key = str(wanted.pop("key"))
        try:
            with object_path(folder, key).open("rb") as file:
                stored = storage.put_stream(key, file)
        except FileNotFoundError:
            raise Invalid(f"The backup lacks the object {key}; take another one.") from None
        if {"num_bytes": stored.num_bytes, "sha256": stored.sha256} != wanted:
            raise Invalid(f"The object {key} of the backup is damaged; take another one.")
        done += 1
        if time.monotonic() - told_at > TELL_SECONDS:
            told_at = time.monotonic()
            tell(f"{done} of {number} objects")
    if done != number:
        raise Invalid(f"The backup in {folder} lists {done} objects and should list {number}; take another one.")


def _listed(path: Path) -> Iterator[dict[str, Any]]:
    with path.open() as file:
        for line in file:
            yield json.loads(line)


def main() -> None:
    """Restore with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="service.restore", description=__doc__)
    parser.add_argument("folder", type=Path, help="what service.backup made")
    options = parser.parse_args()
    settings = read_settings()
    configure_logging(settings)
    factory = build_factory(settings)
    try:
        restore(factory, options.folder, tell)
    except (ServiceError, OSError) as error:
        sys.exit(f"error: {error}")
    finally:
        factory.close()


if __name__ == "__main__":
    main()
