"""`label-factory backup|restore`: everything the service has into one folder, and back into an empty place."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.service import Data
from cli.supervisor import service_environment


def backup(
    to: Annotated[Path, typer.Option("--to", help="The folder to make; not there yet, or empty.")],
    data: Data = Path("data"),
) -> None:
    """Copy all rows and all objects into a folder while the service runs.

    Run on a machine of the service: it takes the service's settings (LABEL_FACTORY_*), not its address.
    """
    _run("service.backup", to, data)


def restore(
    source: Annotated[Path, typer.Option("--from", help="A folder that `backup` made.", exists=True, file_okay=False)],
    data: Data = Path("data"),
) -> None:
    """Put a backup into an empty place: another --data, or an empty database and store of the settings."""
    _run("service.restore", source, data)


def _run(module: str, folder: Path, data: Path) -> None:
    command = [sys.executable, "-m", module, str(folder)]
    code = subprocess.run(command, env=service_environment(data, None), check=False).returncode
    if code:
        raise typer.Exit(code)
