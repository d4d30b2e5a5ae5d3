"""Runs the migrations on SQLite or PostgreSQL; `service.database.migrate` sets the address."""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from sqlalchemy import Connection, text

from service.clock import UtcDateTime
from service.database import make_engine
from service.tables import Base

# Any number: processes that migrate the same PostgreSQL database wait for each other on it.
MIGRATION_LOCK = 5_021_977


def render(kind: str, item: Any, _context: Any) -> str | Literal[False]:
    """Spell our column types in SQLAlchemy's own words: a migration must not change when our code does."""
    if kind == "type" and isinstance(item, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    if kind == "type" and isinstance(item, sa.JSON):
        return "JSON_DOCUMENT"
    return False


def run(connection: Connection) -> None:
    """Upgrade over one connection in one transaction, begun and locked before the present version is read."""
    with connection.begin():  # on SQLite this takes the write lock
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            compare_type=True,
            render_item=render,
            render_as_batch=connection.dialect.name == "sqlite",
            # SQLite's definitions can be rolled back as well; alembic would end the transaction after each step.
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()
        if connection.dialect.name == "sqlite" and (
            broken := connection.execute(text("PRAGMA foreign_key_check")).first()
        ):
            raise RuntimeError(f"the migration would leave a reference to nothing: {broken}")


if context.is_offline_mode():
    raise SystemExit("Migrations need a database; offline SQL is not offered.")

engine = make_engine(context.config.attributes["url"])
try:
    with engine.connect() as opened:
        if engine.dialect.name == "sqlite":
            # A table is changed by a copy that takes its place: the drop would count as the loss of every row referred to.
            opened.connection.cursor().execute("PRAGMA foreign_keys=OFF")
        run(opened)
finally:
    engine.dispose()
