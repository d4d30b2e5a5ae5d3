"""The database: engines for SQLite and PostgreSQL, and migrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from pydantic_core import from_json
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

BUSY_SECONDS = 20
MIGRATIONS = Path(__file__).parent / "migrations"
SILENT_SECONDS = 60
# Longer than storing the largest upload, which holds its pool's lock.
IDLE_SECONDS = 600
# A connection that was cut without a word ends here; a process that froze within a transaction loses its locks there.
POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": SILENT_SECONDS // 2,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": SILENT_SECONDS * 1000,
    "options": f"-c idle_in_transaction_session_timeout={IDLE_SECONDS * 1000}",
}
# As many connections as the API has threads: readers get one though all others wait for a writer.
MAX_CONNECTIONS = 40
KEPT_CONNECTIONS = 10
# An engine option: what BEGIN says on SQLite.
READ_ONLY = {"sqlite_begin": "DEFERRED"}


def make_engine(url: str, kept_connections: int = KEPT_CONNECTIONS) -> Engine:
    """An engine for `sqlite:///file` or `postgresql://...`; makes the folder of a SQLite file.

    Up to `kept_connections` stay open when nobody uses them.
    """
    parsed = make_url(url)
    options: dict[str, Any] = {
        "pool_size": kept_connections,
        "max_overflow": MAX_CONNECTIONS - kept_connections,
        "json_deserializer": from_json,
    }
    if parsed.get_backend_name() == "sqlite":
        return _sqlite_engine(url, str(parsed.database), options)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    # pool_pre_ping: after a database restart the next request works instead of failing once per connection.
    return create_engine(parsed, pool_pre_ping=True, connect_args=POSTGRESQL, **options)


def _sqlite_engine(url: str, database: str, options: dict[str, Any]) -> Engine:
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}, **options)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: it would begin them too late and deferred.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE takes the write lock first: a reader that turns writer would fail without waiting.
        mode = connection.get_execution_options().get("sqlite_begin", "IMMEDIATE")
        connection.exec_driver_sql(f"BEGIN {mode}")

    return engine


def alembic_config(url: str) -> Config:
    """Alembic's configuration for this database; works from any folder."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["url"] = url
    return config


def migrate(url: str, revision: str = "head") -> None:
    """Bring the database to the newest schema, or to a revision; safe to run by several processes at once."""
    command.upgrade(alembic_config(url), revision)


def newest_revision() -> str:
    """The revision of the schema that this release works with."""
    return str(ScriptDirectory.from_config(alembic_config("")).get_current_head())


def knows_revision(revision: str) -> bool:
    """Whether this release's migrations reach from that revision to the newest."""
    return any(
        script.revision == revision for script in ScriptDirectory.from_config(alembic_config("")).walk_revisions()
    )


def current_revision(connection: Connection) -> str | None:
    """The revision of a database's schema; None of one without tables."""
    return MigrationContext.configure(connection).get_current_revision()
