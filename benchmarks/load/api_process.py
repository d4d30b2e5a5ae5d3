"""One API process as `python -m api.main` starts it, on loopback with a folder of its own, and what it uses up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from service import operator_key
from service.bootstrap import Factory, build_factory
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID

START_SECONDS = 120.0
STOP_SECONDS = 30.0
#: As containers run it. A benchmark is one client; the limit is still counted, but not reached.
SETTINGS = {
    "log_json": True,
    "requests_per_minute": 2**31 - 1,
    "changes_per_minute": 2**31 - 1,
    "max_active_jobs": 1_000_000,
}


@dataclass(frozen=True)
class ApiProcess:
    """A running API process."""

    port: int
    """On 127.0.0.1."""
    key: str
    """The API key that the service made for this machine's user: scope admin."""
    settings: Settings
    """What it runs with."""
    process: psutil.Process
    """The process itself."""

    @property
    def headers(self) -> dict[str, str]:
        """What every request shows."""
        return {"authorization": f"Bearer {self.key}"}

    @contextmanager
    def factory(self) -> Iterator[Factory]:
        """The same database and store from this process, as the key's workspace sees them."""
        opened = build_factory(self.settings)
        try:
            yield opened.within(DEFAULT_WORKSPACE_ID)
        finally:
            opened.close()


@contextmanager
def api_process(folder: Path, *, port: int = 0, **changes: object) -> Iterator[ApiProcess]:
    """Start the API on SQLite and a folder, wait for it, stop it. Raises RuntimeError with its log's end.

    `changes` are settings; a port of 0 is a free one.
    """
    settings = Settings(data_dir=folder / "data", **{**SETTINGS, **changes})  # type: ignore[arg-type]
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "api.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "api.main", "--port", str(port)], env=environment(settings), stdout=log, stderr=log
        )
    try:
        _await(f"http://127.0.0.1:{port}/readyz", started, folder / "api.log")
        key = operator_key.path(settings).read_text("utf-8").strip()
        yield ApiProcess(port, key, settings, psutil.Process(started.pid))
    finally:
        stop(started)


@contextmanager
def bare_process(folder: Path) -> Iterator[int]:
    """Start the yardstick ([bare_app.py](bare_app.py)); gives its port."""
    port = free_port()
    with (folder / "bare.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.bare_app", str(port)], stdout=log, stderr=log
        )
    try:
        _await(f"http://127.0.0.1:{port}/healthz", started, folder / "bare.log")
        yield port
    finally:
        stop(started)


def environment(settings: Settings) -> dict[str, str]:
    """The settings as a process of the service reads them."""
    told = {f"LABEL_FACTORY_{name.upper()}": str(getattr(settings, name)) for name in settings.model_fields_set}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LABEL_FACTORY_")}
    return {**inherited, **told}


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stop(*processes: subprocess.Popen[bytes]) -> None:
    """Ask them to end, once, and end those that do not."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urlopen(url, timeout=2).close()
            return
        except (URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text()[-2_000:]}")
