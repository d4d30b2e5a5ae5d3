"""One server per file of bad inputs, with limits small enough to reach."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.bootstrap import build_factory
from service.doorbell import ListDoorbell
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID
from tests.api.inputs.served import Served, serve
from tests.clients import api_key


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[Served]:
    """The service, empty at first."""
    folder = tmp_path_factory.mktemp("inputs") / "data"
    settings = Settings(data_dir=folder, max_upload_bytes=32 * 2**20, max_archive_members=1_000, changes_per_minute=300)
    for part in (folder / "objects", settings.resolved_scratch_dir):
        part.mkdir(parents=True)
    (folder / "factory.sqlite").write_bytes(migrated_sqlite.read_bytes())
    factory = build_factory(settings, doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    with serve(factory, {"Authorization": f"Bearer {api_key(factory)}"}) as served:
        yield served
    factory.close()
