"""`label-factory students`: distilled networks to take home."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client
from cli.listing import add_delete, add_link, add_list, add_show
from cli.options import DEFAULT_URL, Url
from cli.output import console

app = typer.Typer(no_args_is_help=True, help="Distilled networks.")
COLUMNS = ("id", "name", "architecture", "num_parameters", "dataset_id", "created_at")
add_list(app, "student", "/v1/students", COLUMNS)
add_show(app, "student", "/v1/students", (*COLUMNS, "job_id", "classes"))
add_delete(app, "student", "/v1/students", stays="its reports stay")
add_link(app, "student", "/v1/students", "archive")


@app.command()
def download(
    student_id: Annotated[str, typer.Argument(metavar="id", help="The student's id.")],
    out: Annotated[Path | None, typer.Option(help="The folder to make; left out: the student's id.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Download the network: a transformers directory with its card, and ONNX."""
    folder = Client(url).download_folder(f"/v1/students/{student_id}/archive", out or Path(student_id))
    console.print(str(folder), markup=False)
