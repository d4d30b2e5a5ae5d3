"""Time: a column type that is always UTC, and the database's own clock for leases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Float, bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement, select
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, aware and in UTC on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone was given to the database")
        value = value.astimezone(UTC)
        # SQLite keeps text; without the zone it sorts and compares as the database's own clock prints it.
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class DatabaseClock(FunctionElement[datetime]):
    """The database's present time plus a number of seconds, as SQL."""

    type = UtcDateTime()
    name = "database_clock"
    inherit_cache = True


@compiles(DatabaseClock, "postgresql")
def _postgresql(element: DatabaseClock, compiler: SQLCompiler, **kwargs: Any) -> str:
    # clock_timestamp moves within a transaction: a wait for a lock must not shorten a lease.
    seconds = compiler.process(element.clauses, **kwargs)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


@compiles(DatabaseClock, "sqlite")
def _sqlite(element: DatabaseClock, compiler: SQLCompiler, **kwargs: Any) -> str:
    seconds = compiler.process(element.clauses, **kwargs)
    return f"(strftime('%Y-%m-%d %H:%M:%f', 'now', {seconds} || ' seconds') || '000')"


def database_now(plus_seconds: float = 0.0) -> ColumnElement[datetime]:
    """SQL for the database's clock, `plus_seconds` from now."""
    return DatabaseClock(bindparam(None, float(plus_seconds), type_=Float()))


def read_clock(session: Session) -> datetime:
    """Ask the database for its time."""
    return session.execute(select(database_now())).scalar_one()


def utc_now() -> datetime:
    """This process's time, for columns that only tell people when something was made."""
    return datetime.now(UTC)
