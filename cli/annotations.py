"""`label-factory annotations`: a few images with labels."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.client import Client
from cli.listing import add_delete, add_list, add_show
from cli.options import DEFAULT_URL, AsJson, Url
from cli.output import show

app = typer.Typer(no_args_is_help=True, help="A few images with labels.")
COLUMNS = ("id", "name", "kind", "num_images", "image_height", "image_width", "created_at")


@app.command()
def create(
    name: str,
    archive: Annotated[
        Path,
        typer.Argument(
            help="A zip: COCO annotations with images, or index masks with images.", exists=True, dir_okay=False
        ),
    ],
    labels: Annotated[Literal["auto", "coco", "masks"], typer.Option("--format", help="What the zip holds.")] = "auto",
    classes: Annotated[
        str | None, typer.Option(help="Class names by index, for mask zips without a class list: a,b,c.")
    ] = None,
    things: Annotated[str | None, typer.Option(help="Classes whose instances count: a,b.")] = None,
    first: Annotated[int | None, typer.Option(min=1, help="Take only the first N images of the zip.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Upload an annotated zip; it is checked wholly, and every problem is named with its place."""
    query = {"name": name, "format": labels, "classes": classes, "things": things, "first": first}
    show(Client(url).upload("/v1/annotation-sets", archive, **query), as_json=as_json, columns=COLUMNS)


add_list(app, "annotation set", "/v1/annotation-sets", COLUMNS)
add_show(app, "annotation set", "/v1/annotation-sets", (*COLUMNS, "classes"))
add_delete(app, "annotation set", "/v1/annotation-sets", stays="datasets and students that came from it stay")
