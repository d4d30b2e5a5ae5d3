"""`label-factory pools`: unlabelled real images."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client, Json
from cli.listing import add_delete, add_list, add_show
from cli.options import DEFAULT_URL, AsJson, Url
from cli.output import show

app = typer.Typer(no_args_is_help=True, help="Unlabelled real images.")
COLUMNS = ("id", "name", "state", "num_images", "image_height", "image_width", "created_at")


@app.command()
def create(
    name: str,
    images: Annotated[list[Path], typer.Argument(help="Zip files with images.", exists=True, dir_okay=False)],
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Upload zips of images into a new pool and seal it."""
    show(upload_pool(Client(url), name, images), as_json=as_json, columns=COLUMNS)


def upload_pool(client: Client, name: str, images: Iterable[Path]) -> Json:
    """A sealed pool of all images of these zips."""
    pool = client.post("/v1/image-pools", {"name": name})
    for archive in images:
        client.upload(f"/v1/image-pools/{pool['id']}/images", archive)
    return client.post(f"/v1/image-pools/{pool['id']}:seal")


add_list(app, "pool", "/v1/image-pools", COLUMNS)
add_show(app, "pool", "/v1/image-pools", COLUMNS)
add_delete(app, "pool", "/v1/image-pools", stays="generators and datasets that came from it stay")
