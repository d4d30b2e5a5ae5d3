"""`label-factory up|api|worker|doctor`: run the service on this machine and look after it."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client, CliError
from cli.options import DEFAULT_URL, AsJson, Url
from cli.output import console, show
from cli.supervisor import running_service

Data = Annotated[Path, typer.Option("--data", help="The one folder that holds all the service has.")]
Generators = Annotated[
    Path | None,
    typer.Option(
        "--generators",
        help="A folder whose sub-folders are generators that may be registered.",
        exists=True,
        file_okay=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="A folder whose sub-folders are weights that students may start from.",
        exists=True,
        file_okay=False,
    ),
]


def up(
    data: Data = Path("data"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    generators: Generators = None,
    weights: Weights = None,
    workers: Annotated[
        int, typer.Option(min=1, max=1024, help="Worker processes; they share the cores, and each runs one step.")
    ] = 1,
) -> None:
    """Run the embedded service (SQLite, a folder, worker processes) until Ctrl-C or SIGTERM."""
    service = running_service(data, port=port, generators=generators, weights=weights, workers=workers)
    with service as supervisor, suppress(KeyboardInterrupt):
        console.print(
            f"Label Factory runs at {supervisor.url} and keeps all it has in {data.resolve()}; Ctrl-C ends it"
        )
        threading.Event().wait()
    console.print("stopped; a step that was running goes on at the next start")


def api(
    host: Annotated[str, typer.Option(help="The address to bind.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """Run the API alone; settings come from the environment (LABEL_FACTORY_*)."""
    os.execv(sys.executable, [sys.executable, "-m", "api.main", "--host", host, "--port", str(port)])


def worker() -> None:
    """Run one embedded worker alone; settings come from the environment (LABEL_FACTORY_*)."""
    os.execv(sys.executable, [sys.executable, "-m", "workers.embedded"])


def doctor(data: Data = Path("data"), url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Check this machine and the service, and say what to do about what is wrong."""
    findings = [_python(), _torch(), _disk(data), _service(url)]
    show(findings, as_json=as_json, columns=("check", "ok", "found", "what_to_do"))
    if not all(finding["ok"] for finding in findings):
        raise typer.Exit(1)


def _finding(check: str, ok: bool, found: str, what_to_do: str) -> dict[str, object]:
    return {"check": check, "ok": ok, "found": found, "what_to_do": "" if ok else what_to_do}


def _python() -> dict[str, object]:
    found = ".".join(map(str, sys.version_info[:3]))
    return _finding("python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def _torch() -> dict[str, object]:
    code = (
        "import torch; print(torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU')"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    found = answer.stdout.strip() or answer.stderr.strip().rpartition("\n")[2]
    return _finding("torch", answer.returncode == 0, found, "install the package again: `make install`")


def _disk(data: Path) -> dict[str, object]:
    folder = data.resolve()
    while not folder.exists():
        folder = folder.parent
    free_gb = shutil.disk_usage(folder).free / 1e9
    writable = os.access(folder, os.W_OK)
    return _finding(
        "disk", free_gb >= 2.0 and writable, f"{free_gb:.1f} GB free at {folder}", "free 2 GB or choose another --data"
    )


def _service(url: str) -> dict[str, object]:
    try:
        Client(url, timeout_seconds=5.0).get("/readyz")
    except CliError as error:
        return _finding("service", False, str(error), "start it with `label-factory up`")
    return _finding("service", True, f"ready at {url}", "")
