"""A served API on a free port, for a command line that speaks HTTP to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from api.app import create_app
from cli.supervisor import free_port
from service.bootstrap import Factory
from tests.clients import api_key


@pytest.fixture
def url(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("LABEL_FACTORY_API_KEY", api_key(factory))
    port = free_port(0)
    server = uvicorn.Server(uvicorn.Config(create_app(factory), port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline, "the API did not start"
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
