"""`label-factory up|api|worker|doctor`: run the service on this machine and look after it."""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cli.access import sign_in_link
from cli.client import Client, CliError
from cli.options import AsJson
from cli.output import console, show
from cli.supervisor import running_service, service_environment

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
        console.print(f"sign in: {sign_in_link(supervisor.client())}", soft_wrap=True)
        console.print("the link works once, within 15 minutes; `label-factory sign-in` prints another", style="dim")
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


def doctor(
    data: Data = Path("data"),
    url: Annotated[str | None, typer.Option("--url", help="Also ask the service that should run there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check settings, disk, database, store, broker, clocks, workers and device, and say what to do about what is wrong."""
    environment = service_environment(data, None)
    findings = [finding for module in ("service.doctor", "workers.doctor") for finding in _examine(module, environment)]
    if url is not None:
        findings.append(_service(url))
    show(findings, as_json=as_json, columns=("check", "ok", "found", "what_to_do"))
    if not all(finding["ok"] for finding in findings):
        raise typer.Exit(1)


def _examine(module: str, environment: dict[str, str]) -> list[dict[str, object]]:
    """What a doctor finds in a process of its own: one that cannot even start is a finding too."""
    command = [sys.executable, "-m", module, "--json"]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    try:
        found: list[dict[str, object]] = json.loads(answer.stdout)
    except ValueError:
        reason = answer.stderr.strip().rpartition("\n")[2]
        return [_finding(module, False, reason, "install the package again: `make install`")]
    return [{**finding, "what_to_do": "" if finding["ok"] else finding["what_to_do"]} for finding in found]


def _finding(check: str, ok: bool, found: str, what_to_do: str) -> dict[str, object]:
    return {"check": check, "ok": ok, "found": found, "what_to_do": "" if ok else what_to_do}


def _service(url: str) -> dict[str, object]:
    try:
        Client(url, timeout_seconds=5.0).get("/readyz")
    except CliError as error:
        return _finding("service", False, str(error), "start it with `label-factory up`")
    return _finding("service", True, f"ready at {url}", "")
