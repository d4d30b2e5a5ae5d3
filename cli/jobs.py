"""`label-factory jobs`: submit, follow, cancel, retry."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.client import Client, CliError, Json
from cli.listing import add_delete
from cli.options import DEFAULT_URL, AsJson, Limit, Url
from cli.output import console, rows_table, show
from cli.watch import watch

app = typer.Typer(no_args_is_help=True, help="What the factory was asked for.")
COLUMNS = ("id", "kind", "name", "state", "created_at", "finished_at")
State = Literal["queued", "running", "cancelling", "cancelled", "succeeded", "failed"]
STEP_COLUMNS = ("kind", "index", "state", "attempt", "seconds", "peak_memory_bytes")


@app.command()
def submit(
    spec: Annotated[str, typer.Argument(help="The job as a JSON file, or - for standard input.")],
    idempotency_key: Annotated[str | None, typer.Option(help="Submitting twice with one key makes one job.")] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Submit a job, such as {"kind": "label", "annotation_set_id": "ann_...", "generator": "portraits"}."""
    client = Client(url)
    headers = {"idempotency-key": idempotency_key} if idempotency_key else None
    job = client.post("/v1/jobs", _read_spec(spec), headers=headers)
    if follow:
        job = watch(client, job["id"])
    show(job, as_json=as_json, columns=COLUMNS)


@app.command("list")
def list_jobs(
    state: Annotated[State | None, typer.Option(help="Only jobs in this state.")] = None,
    url: Url = DEFAULT_URL,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List the jobs, newest first."""
    show(Client(url).items("/v1/jobs", limit=limit, state=state), as_json=as_json, columns=COLUMNS)


@app.command("show")
def show_job(job_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Show a job and its steps."""
    client = Client(url)
    job = client.get(f"/v1/jobs/{job_id}")
    steps = client.items(f"/v1/jobs/{job_id}/steps")
    if as_json:
        show(job | {"steps": steps}, as_json=True)
        return
    show(job, as_json=False, columns=(*COLUMNS, "result", "error"))
    console.print(rows_table(steps, STEP_COLUMNS))


@app.command("watch")
def watch_job(job_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Follow a job to its end."""
    show(watch(Client(url), job_id), as_json=as_json, columns=(*COLUMNS, "result"))


@app.command()
def cancel(job_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Ask a job to stop; what it finished stays."""
    show(Client(url).post(f"/v1/jobs/{job_id}:cancel"), as_json=as_json, columns=COLUMNS)


@app.command()
def retry(job_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Run a failed or cancelled job again from its last checkpoints."""
    show(Client(url).post(f"/v1/jobs/{job_id}:retry"), as_json=as_json, columns=COLUMNS)


add_delete(app, "job", "/v1/jobs", stays="what it made stays")


def _read_spec(source: str) -> Json:
    try:
        text = typer.get_text_stream("stdin").read() if source == "-" else Path(source).read_text(encoding="utf-8")
        spec = json.loads(text)
    except OSError as error:
        raise CliError(f"{source}: {error.strerror}") from None
    except ValueError as error:
        raise CliError(f"{source} is not JSON: {error}") from None
    if not isinstance(spec, dict):
        raise CliError(f"{source} must hold one JSON object")
    return spec
