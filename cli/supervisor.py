"""A whole embedded service on this machine: one API process and its worker processes over one data folder."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.client import Client, CliError
from cli.credentials import forget, read_key, remember
from cli.output import console
from service.settings import OPERATOR_KEY_FILE

START_TIMEOUT_SECONDS = 60.0
#: A worker hands its step over within this time after SIGTERM.
STOP_TIMEOUT_SECONDS = 30.0
RESTART_SECONDS = 1.0
LAST_WORDS_BYTES = 4_096


def service_environment(
    data: Path, generators: Path | None, *, weights: Path | None = None, workers: int = 1
) -> dict[str, str]:
    """The environment of every process of a service that keeps all it has under `data`.

    Several workers share the machine's cores, unless the person who starts them says how many each may take.
    """
    environment = dict(os.environ)
    # Waiting torch threads must not spin: on a machine that does anything else they take four times as long.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if workers > 1:
        environment.setdefault("LABEL_FACTORY_TORCH_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    environment["LABEL_FACTORY_DATA_DIR"] = str(data.resolve())
    if generators is not None:
        environment["LABEL_FACTORY_BUNDLED_GENERATORS_DIR"] = str(generators.resolve())
    if weights is not None:
        environment["LABEL_FACTORY_WEIGHTS_DIR"] = str(weights.resolve())
    return environment


def free_port(preferred: int) -> int:
    """`preferred` when nothing listens there, else one the system picks."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise CliError("no free port on 127.0.0.1")


class Supervisor:
    """Starts the processes, restarts one that dies, stops them all."""

    def __init__(
        self, data: Path, *, port: int, generators: Path | None = None, weights: Path | None = None, workers: int = 1
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._data = data
        self._log_folder = data / "logs"
        try:
            self._log_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CliError(f"{error.filename}: {error.strerror}; choose another --data") from None
        self._environment = service_environment(data, generators, weights=weights, workers=workers)
        self._workers = [f"worker-{number}" for number in range(1, workers + 1)]
        self._commands = {
            "api": [sys.executable, "-m", "api.main", "--host", "127.0.0.1", "--port", str(port)],
            **{name: [sys.executable, "-m", "workers.embedded"] for name in self._workers},
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the API, wait until it is ready (it migrates the database), then the workers."""
        self._launch("api")
        client = Client(self.url)
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not client.is_ready():
            if self._processes["api"].poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise CliError(f"the API did not start: {self._last_words('api')}")
            time.sleep(0.1)
        remember(self.url, self._data)
        for name in self._workers:
            self._launch(name)

    def client(self) -> Client:
        """Speaks to the service with the key that it made for this user. Raises CliError where it made none."""
        try:
            return Client(self.url, key=read_key(self._data / OPERATOR_KEY_FILE))
        except OSError:
            raise CliError(
                "this service makes no key by itself; `python -m service.access create-key NAME` does"
            ) from None

    def guard(self, ended: threading.Event) -> None:
        """Start again what dies, until `ended`; leases make sure that nothing is lost."""
        while not ended.wait(RESTART_SECONDS):
            for name, process in list(self._processes.items()):
                if (code := process.poll()) is not None:
                    console.print(f"[yellow]{name} ended with exit code {code}; starting it again[/yellow]")
                    self._launch(name)

    def stop(self) -> None:
        """Ask every process to hand over and end; kill what does not within the grace time."""
        forget(self.url)
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _last_words(self, name: str) -> str:
        path = self._log_folder / f"{name}.log"
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LAST_WORDS_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        said = [line for line in lines if line.strip()]
        reason = said[-1].removeprefix("error: ") if said else "it said nothing"
        return f"{reason} (see {path})"

    def _launch(self, name: str) -> None:
        with (self._log_folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self._commands[name], env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )


@contextmanager
def running_service(
    data: Path, *, port: int, generators: Path | None = None, weights: Path | None = None, workers: int = 1
) -> Iterator[Supervisor]:
    """A service for the length of a `with` block; SIGTERM ends the block as Ctrl-C does, so that no process is left."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    supervisor = Supervisor(data, port=free_port(port), generators=generators, weights=weights, workers=workers)
    supervisor.start()
    ended = threading.Event()
    guard = threading.Thread(target=supervisor.guard, args=(ended,), daemon=True)
    guard.start()
    try:
        yield supervisor
    finally:
        ended.set()
        guard.join()
        supervisor.stop()
