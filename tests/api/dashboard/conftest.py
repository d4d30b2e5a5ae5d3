"""One furnished factory for all page tests: the pages only read it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.bootstrap import Factory, build_factory
from service.doorbell import ListDoorbell
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID
from tests.api.dashboard import job_drivers, scenery
from tests.clients import api_client


@dataclass(frozen=True)
class Furnished:
    """A client of a factory with a job in every state."""

    client: TestClient
    factory: Factory
    scene: scenery.Scene
    jobs: dict[str, str]

    def result(self, name: str, job: str = "succeeded") -> str:
        """An id that a finished job made."""
        return str(self.client.get(f"/v1/jobs/{self.jobs[job]}").json()["result"][name])

    def results(self, name: str) -> list[str]:
        """Ids of this name that all jobs made."""
        found = (self.client.get(f"/v1/jobs/{job_id}").json()["result"] for job_id in self.jobs.values())
        return [str(result[name]) for result in found if name in result]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[Furnished]:
    """Rows in every state, named to do harm."""
    data = tmp_path_factory.mktemp("furnished")
    (data / "factory.sqlite").write_bytes(migrated_sqlite.read_bytes())
    settings = Settings(data_dir=data, progress_event_seconds=0, shard_size=4)
    factory = build_factory(settings, doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    scene = scenery.build(factory, scenery.drawn_pictures(), scenery.CLASSES)
    jobs = job_drivers.everything(scene)
    with api_client(factory) as client:
        yield Furnished(client, factory, scene, jobs)


@pytest.fixture
def empty_client(factory: Factory) -> Iterator[TestClient]:
    """A factory in which nothing has happened."""
    with api_client(factory) as client:
        yield client
