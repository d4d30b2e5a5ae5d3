"""The one place that chooses implementations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import Engine, text
from sqlalchemy.orm import sessionmaker

from service import audit, generators, object_keys, operator_key
from service.caller import Action
from service.database import KEPT_CONNECTIONS, READ_ONLY, make_engine, migrate
from service.doorbell import Doorbell, open_doorbell
from service.logs import configure_logging
from service.settings import Settings, read_settings
from service.storage import ObjectStorage, open_storage
from service.tables import DEFAULT_WORKSPACE_ID
from service.tenancy import WorkspaceSession
from service.unit_of_work import Work, unit_of_work


@dataclass(frozen=True)
class Factory:
    """Everything an API or worker process needs; made once per process."""

    settings: Settings
    """All settings."""
    engine: Engine
    """The database."""
    sessions: sessionmaker[WorkspaceSession]
    """Opens transactions."""
    storage: ObjectStorage
    """The object store."""
    doorbell: Doorbell
    """Wakes workers."""
    workspace_id: str | None = None
    """The only workspace whose rows are there; None for workers and the operator, who see all."""
    action: Action | None = None
    """What every work leaves in the audit log; None where no caller asked for it."""

    def within(self, workspace_id: str) -> Factory:
        """The factory as this workspace sees it."""
        return replace(self, workspace_id=workspace_id, action=None)

    def on_behalf(self, action: Action) -> Factory:
        """The factory as a caller sees it; what is changed is put down in the audit log, in the same transaction."""
        return replace(self, workspace_id=action.caller.workspace_id, action=action)

    def unbound(self) -> Factory:
        """The factory with all workspaces: for workers, the operator, and to find out who asks."""
        return replace(self, workspace_id=None, action=None)

    @contextmanager
    def work(self) -> Iterator[Work]:
        """Open a unit of work that commits and then rings."""
        with unit_of_work(self.sessions, self.storage, self.settings, self.doorbell, self._bound_to) as work:
            yield work
            if self.action is not None:
                audit.record_done(work, self.action)

    @contextmanager
    def read(self) -> Iterator[Work]:
        """Open a work that only reads: it never waits for writers and is never committed."""
        engine, info = self.engine.execution_options(**READ_ONLY), dict(self._bound_to)
        with WorkspaceSession(engine, expire_on_commit=False, info=info) as session:
            yield Work(session, self.storage, self.settings)

    @property
    def _bound_to(self) -> dict[str, str | None]:
        """What its sessions are bound to (`service/tenancy.py`)."""
        key_id = None if self.action is None else self.action.caller.key_id
        return {"workspace_id": self.workspace_id, "api_key_id": key_id}

    def check(self) -> None:
        """Raise when the database or the object store cannot be reached."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT version_num FROM alembic_version"))
        self.storage.check()

    def close(self) -> None:
        """Give the database connections back."""
        self.engine.dispose()


def build_factory(
    settings: Settings,
    *,
    storage: ObjectStorage | None = None,
    doorbell: Doorbell | None = None,
    kept_connections: int = KEPT_CONNECTIONS,
) -> Factory:
    """Choose the implementations that the settings name; tests may put fakes in. Touches no table."""
    engine = make_engine(settings.resolved_database_url, kept_connections)
    return Factory(
        settings=settings,
        engine=engine,
        sessions=sessionmaker(engine, class_=WorkspaceSession, expire_on_commit=False),
        storage=storage or open_storage(settings),
        doorbell=doorbell or open_doorbell(settings),
    )


def prepare(factory: Factory) -> None:
    """Bring the database to the newest schema, try the store, register the operator's generators; run before serving.

    An embedded service gets a key for the user of this machine.
    """
    migrate(factory.settings.resolved_database_url)
    put_marker(factory.storage)
    folder = factory.settings.bundled_generators_dir
    if folder is not None:
        with factory.work() as work:
            generators.register_folder(work, folder)
    if factory.settings.embedded:
        with factory.within(DEFAULT_WORKSPACE_ID).work() as work:
            operator_key.ensure(work)


def put_marker(storage: ObjectStorage) -> None:
    """Write the store's marker, always the same bytes. Raises StorageError, StorageFull."""
    storage.put_stream(object_keys.STORE_MARKER, [b'{"format": 1}'])


def main() -> None:
    """`python -m service.bootstrap`: prepare once, before API and workers start."""
    settings = read_settings()
    configure_logging(settings)
    factory = build_factory(settings)
    prepare(factory)
    factory.close()


if __name__ == "__main__":
    main()
