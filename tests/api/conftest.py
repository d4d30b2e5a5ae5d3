"""The application over real SQLite and a real folder."""

from collections.abc import Iterator

import pytest
import structlog
from fastapi.testclient import TestClient

from service.bootstrap import Factory
from tests.clients import api_client


@pytest.fixture(autouse=True)
def _plain_tracebacks() -> Iterator[None]:
    """structlog's default prints every local variable of a crash, which takes half a minute."""
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, console])
    yield
    structlog.reset_defaults()


@pytest.fixture
def client(factory: Factory) -> Iterator[TestClient]:
    """Speaks to the application with an admin key."""
    with api_client(factory) as client:
        yield client
