"""`label-factory`: the commands, one file per noun."""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from cli import (
    access,
    annotations,
    backup,
    datasets,
    demo,
    generators,
    jobs,
    keys,
    label,
    pools,
    reports,
    service,
    students,
    webhooks,
    workspaces,
)
from cli.benchmark.command import benchmark
from cli.client import CliError
from cli.credentials import FILE_VARIABLE
from cli.output import console, notices

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(pools.app, name="pools")
app.add_typer(annotations.app, name="annotations")
app.add_typer(generators.app, name="generators")
app.add_typer(jobs.app, name="jobs")
app.add_typer(datasets.app, name="datasets")
app.add_typer(students.app, name="students")
app.add_typer(reports.app, name="reports")
app.add_typer(keys.app, name="keys")
app.add_typer(workspaces.app, name="workspaces")
app.command("sign-in")(access.sign_in)
app.command("audit")(access.audit)
app.command("label")(label.label)
app.add_typer(webhooks.app, name="webhooks")
app.command("demo")(demo.demo)
app.command("benchmark")(benchmark)
app.command("up")(service.up)
app.command("api")(service.api)
app.command("worker")(service.worker)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("doctor")(service.doctor)


def _tell_version(wanted: bool) -> None:
    if wanted:
        console.print(version("label-factory"))
        raise typer.Exit


@app.callback()
def label_factory(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file", envvar=FILE_VARIABLE, help="A file with the key of a service on another machine."
        ),
    ] = None,
) -> None:
    """A few annotated images in, a labelled dataset and a small deployable network out."""
    if api_key_file is not None:
        os.environ[FILE_VARIABLE] = str(api_key_file)


def main() -> None:
    """Run a command; a failure is one clear line on standard error and exit code 1."""
    try:
        app()
    except CliError as error:
        notices.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
