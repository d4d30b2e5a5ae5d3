"""`label-factory students`: distilled networks to take home."""

import zipfile
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client
from cli.options import DEFAULT_URL, AsJson, Limit, Url
from cli.output import console, show

app = typer.Typer(no_args_is_help=True, help="Distilled networks.")
COLUMNS = ("id", "name", "architecture", "num_parameters", "dataset_id", "created_at")


@app.command("list")
def list_students(url: Url = DEFAULT_URL, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List the students, newest first."""
    show(Client(url).items("/v1/students", limit=limit), as_json=as_json, columns=COLUMNS)


@app.command()
def download(
    student_id: str,
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("student"),
    url: Url = DEFAULT_URL,
) -> None:
    """Download the network: a transformers directory with its card, and ONNX."""
    console.print(str(download_student(Client(url), student_id, out)), markup=False)


def download_student(client: Client, student_id: str, out: Path) -> Path:
    """Fetch and unpack the student's archive into the folder `out`."""
    archive_path = out.with_name(out.name + ".zip")
    client.download(f"/v1/students/{student_id}/archive", archive_path)
    with zipfile.ZipFile(archive_path) as archive:
        archive.extractall(out)
    archive_path.unlink()
    return out
