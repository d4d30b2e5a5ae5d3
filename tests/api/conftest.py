"""The application over real SQLite and a real folder."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from service.bootstrap import Factory


@pytest.fixture
def client(factory: Factory) -> Iterator[TestClient]:
    """Speaks to the application; a crash is an answer here, as it is for users."""
    with TestClient(create_app(factory), raise_server_exceptions=False) as client:
        yield client
