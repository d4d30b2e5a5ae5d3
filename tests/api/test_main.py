"""The API as a process of its own: it migrates, serves, and stops while somebody watches."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service.bootstrap import build_factory, prepare
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID
from tests import factories


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`python -m api.main` over an empty data folder, and its address."""
    port = free_port()
    environment = {**os.environ, "LABEL_FACTORY_DATA_DIR": str(tmp_path / "data"), "LABEL_FACTORY_LOG_JSON": "true"}
    command = [sys.executable, "-m", "api.main", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    yield process, f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def wait_until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx2.get(f"{url}/readyz", timeout=2).status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.05)
    raise AssertionError("the server does not get ready")


def test_it_serves_and_stops_while_an_event_stream_is_open(
    server: tuple[subprocess.Popen[bytes], str], tmp_path: Path
) -> None:
    process, url = server
    wait_until_ready(url)
    other = build_factory(Settings(data_dir=tmp_path / "data"))
    prepare(other)
    key = (tmp_path / "data" / "api-key").read_text().strip()
    headers = {"authorization": f"Bearer {key}"}
    job = factories.make_job(other.within(DEFAULT_WORKSPACE_ID))
    other.close()
    with httpx2.stream("GET", f"{url}/v1/jobs/{job.id}/events", headers=headers, timeout=30) as stream:
        assert stream.status_code == 200
        assert any("job.state" in line for line in stream.iter_lines())
    with httpx2.stream("GET", f"{url}/v1/jobs/{job.id}/events", headers=headers, timeout=30) as stream:
        next(stream.iter_lines())
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in {0, -signal.SIGTERM}
    log = (tmp_path / "log").read_text()
    assert "/v1/jobs/{job_id}/events" in {json.loads(line).get("route") for line in log.splitlines()}
    assert "Traceback" not in log, log
