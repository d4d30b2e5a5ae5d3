"""All rows of a database as compressed JSON lines, one file per table: written from one snapshot, read into another database.

The tables are taken as the database has them, not as this release knows them, and the same dump goes into SQLite and
PostgreSQL: a factory that outgrew one machine moves into a cluster this way. What a column may hold is text, numbers,
booleans, times and JSON; anything else is refused when it is written, not when it is needed.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, Connection, DateTime, Integer, MetaData, Table, insert, select, text

ROWS_AT_ONCE = 1_000
NOT_DUMPED = frozenset({"alembic_version", "workers"})
"""The revision is told beside the dump; workers of another place are not alive here."""


def dump(connection: Connection, folder: Path, tick: Callable[[], None] = lambda: None) -> dict[str, int]:
    """Write `TABLE.jsonl.gz` of every table; returns the number of rows of each. `tick` is called now and then."""
    folder.mkdir(parents=True)
    return {table.name: _dump_table(connection, table, folder, tick) for table in _tables(connection)}


def load(connection: Connection, folder: Path) -> dict[str, int]:
    """Put dumped rows into the tables of a database of the same revision, instead of what its migrations left there."""
    tables = _tables(connection)
    for table in reversed(tables):
        connection.execute(table.delete())
    return {table.name: _load_table(connection, table, folder) for table in tables}


def _tables(connection: Connection) -> list[Table]:
    """Each table after those it refers to."""
    metadata = MetaData()
    metadata.reflect(connection, only=lambda name, _: name not in NOT_DUMPED)
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, JSON):
                column.type.none_as_null = True
    return metadata.sorted_tables


def _dump_table(connection: Connection, table: Table, folder: Path, tick: Callable[[], None]) -> int:
    number = 0
    rows = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(select(table))
    with gzip.open(folder / f"{table.name}.jsonl.gz", "wt", compresslevel=1, encoding="utf-8") as file:
        file.write(json.dumps(list(table.columns.keys())) + "\n")
        for row in rows:
            file.write(json.dumps(list(row), default=_time_to_text, ensure_ascii=False) + "\n")
            number += 1
            if number % ROWS_AT_ONCE == 0:
                tick()
    return number


def _load_table(connection: Connection, table: Table, folder: Path) -> int:
    number = 0
    with gzip.open(folder / f"{table.name}.jsonl.gz", "rt", encoding="utf-8") as file:
        names = json.loads(next(file))
        readers = [_reader(connection, table, name) for name in names]
        while lines := list(islice(file, ROWS_AT_ONCE)):
            rows = [_row(names, readers, json.loads(line)) for line in lines]
            connection.execute(insert(table), rows)
            number += len(rows)
    _count_on(connection, table)
    return number


def _row(names: Sequence[str], readers: Sequence[Callable[[Any], Any]], values: Sequence[Any]) -> dict[str, Any]:
    return {name: read(value) for name, read, value in zip(names, readers, values, strict=True)}


def _reader(connection: Connection, table: Table, name: str) -> Callable[[Any], Any]:
    if not isinstance(table.columns[name].type, DateTime):
        return lambda value: value
    aware = connection.dialect.name != "sqlite"
    return lambda value: None if value is None else _text_to_time(value, aware=aware)


def _time_to_text(value: Any) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"a column holds {type(value).__name__}, which a dump cannot")
    # SQLite's times have no zone and are UTC.
    return (value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)).isoformat()


def _text_to_time(value: str, *, aware: bool) -> datetime:
    moment = datetime.fromisoformat(value)
    return moment if aware else moment.replace(tzinfo=None)


def _count_on(connection: Connection, table: Table) -> None:
    """PostgreSQL's counters do not follow ids that are given; SQLite's do."""
    if connection.dialect.name != "postgresql":
        return
    for column in _counted(table):
        sequence = connection.scalar(
            text("SELECT pg_get_serial_sequence(:table, :column)"), {"table": table.name, "column": column}
        )
        if sequence is not None:
            highest = f'SELECT coalesce(max("{column}"), 0) + 1 FROM "{table.name}"'
            connection.execute(text(f"SELECT setval('{sequence}', ({highest}), false)"))


def _counted(table: Table) -> Iterator[str]:
    return (column.name for column in table.primary_key.columns if isinstance(column.type, Integer))
