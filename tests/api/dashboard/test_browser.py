"""A real browser runs the pages: scripts pass the policy, charts are drawn, the console stays empty."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from api.app import create_app
from tests.api.dashboard.conftest import Furnished

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=4000",
    "--dump-dom",
]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def address(furnished: Furnished) -> Iterator[str]:
    """The furnished factory behind a real server."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(create_app(furnished.factory), host="127.0.0.1", port=port, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


def browse(furnished: Furnished, address: str, path: str, profile: Path) -> tuple[str, list[str]]:
    """The page after a sign-in link led to it and its scripts ran, and what they complained of."""
    assert CHROMIUM is not None
    link = furnished.client.post("/v1/sign-in-links").json()["path"]
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", f"{address}{link}&next={path}"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return answer.stdout, [line for line in answer.stderr.splitlines() if "CONSOLE" in line]


def test_curves_are_drawn_under_the_policy(furnished: Furnished, address: str, tmp_path: Path) -> None:
    page, complaints = browse(furnished, address, f"/jobs/{furnished.jobs['succeeded']}", tmp_path)
    assert complaints == []
    assert page.count('class="uplot') == 6


def test_the_gallery_gets_its_slider(furnished: Furnished, address: str, tmp_path: Path) -> None:
    page, complaints = browse(furnished, address, f"/datasets/{furnished.result('dataset_id')}", tmp_path)
    assert complaints == []
    assert '<label class="slider" data-needs-script="">' in page


def test_the_sign_in_page_is_what_a_stranger_sees(address: str, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", f"{address}/jobs?state=failed"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert 'name="next" value="/jobs?state=failed"' in answer.stdout
    assert "CONSOLE" not in answer.stderr
