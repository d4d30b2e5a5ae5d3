"""Liveness touches nothing; readiness asks the database and the store."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from service.bootstrap import Factory, build_factory
from service.settings import Settings
from service.storage import ObstoreStorage, StorageError


def test_both_probes_answer(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}


def test_without_tables_it_lives_but_is_not_ready(settings: Settings) -> None:
    with TestClient(create_app(build_factory(settings)), raise_server_exceptions=False) as client:
        assert client.get("/healthz").status_code == 200
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


def test_without_the_store_it_is_not_ready(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, factory: Factory
) -> None:
    def gone(_self: ObstoreStorage) -> None:
        raise StorageError("The object store is gone.")

    monkeypatch.setattr(ObstoreStorage, "check", gone)
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The object store is gone."
