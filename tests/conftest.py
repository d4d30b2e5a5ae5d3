"""Fixtures of all rooms: a factory on SQLite and a folder, and real servers for contract tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import insert, text

from service.bootstrap import Factory, build_factory
from service.database import make_engine, migrate
from service.doorbell import ListDoorbell
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID, Base, Workspace
from tests.servers import S3Address, postgresql_server, redis_server, s3_server

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("factory", deadline=None)
hypothesis.settings.load_profile("factory")


@pytest.fixture(autouse=True)
def _nothing_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The developer's own settings must not change a test, nor a test what the developer's commands find."""
    import os

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))
    for name in list(os.environ):
        if name.startswith("LABEL_FACTORY_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy: migrating takes longer than most tests."""
    path = tmp_path_factory.mktemp("database") / "empty.sqlite"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The embedded service in a temporary folder."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def factory(settings: Settings, migrated_sqlite: Path) -> Iterator[Factory]:
    """A factory on SQLite and a folder, as the default workspace sees it, with a doorbell that remembers."""
    settings.data_dir.mkdir(parents=True)
    (settings.data_dir / "factory.sqlite").write_bytes(migrated_sqlite.read_bytes())
    made = build_factory(settings, doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    """A migrated PostgreSQL database, shared by the session."""
    with postgresql_server() as url:
        migrate(url)
        yield url


@pytest.fixture(scope="session")
def s3_address() -> Iterator[S3Address]:
    """An S3-compatible store, shared by the session."""
    with s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A Redis-compatible server, shared by the session."""
    with redis_server() as url:
        yield url


@pytest.fixture
def postgresql_factory(tmp_path: Path, postgresql_url: str) -> Iterator[Factory]:
    """A factory on an empty PostgreSQL database and a folder, as the default workspace sees it."""
    empty_tables(postgresql_url)
    made = build_factory(Settings(data_dir=tmp_path / "data", database_url=postgresql_url), doorbell=ListDoorbell())
    yield made.within(DEFAULT_WORKSPACE_ID)
    made.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_factory(request: pytest.FixtureRequest) -> Factory:
    """A factory on each database in turn."""
    name = "factory" if request.param == "sqlite" else "postgresql_factory"
    found: Factory = request.getfixturevalue(name)
    return found


def empty_tables(url: str) -> None:
    """Remove all rows from all tables of a PostgreSQL database, but for the default workspace."""
    engine = make_engine(url)
    names = ", ".join(table.name for table in Base.metadata.sorted_tables)
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
        connection.execute(insert(Workspace).values(id=DEFAULT_WORKSPACE_ID, name="default"))
    engine.dispose()
