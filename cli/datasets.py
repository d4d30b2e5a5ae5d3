"""`label-factory datasets`: sealed labelled images to take home."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client, CliError
from cli.listing import add_delete, add_link, add_list, add_show
from cli.options import DEFAULT_URL, Url
from cli.output import console
from cli.watch import watch

app = typer.Typer(no_args_is_help=True, help="Labelled images that a job made.")
COLUMNS = ("id", "name", "state", "num_images", "num_kept", "created_at")
add_list(app, "dataset", "/v1/datasets", COLUMNS)
add_show(app, "dataset", "/v1/datasets", (*COLUMNS, "image_height", "image_width", "classes", "job_id"))
add_delete(app, "dataset", "/v1/datasets", stays="the card and what came from it stay")
add_link(app, "dataset", "/v1/datasets", "exports/coco")


@app.command()
def export(
    dataset_id: Annotated[str, typer.Argument(metavar="id", help="The dataset's id.")], url: Url = DEFAULT_URL
) -> None:
    """Make the COCO zip again, once it has expired, and wait for it; `download` fetches it then."""
    client = Client(url)
    watch(client, client.post("/v1/jobs", {"kind": "export", "dataset_id": dataset_id})["id"])


@app.command()
def download(
    dataset_id: Annotated[str, typer.Argument(metavar="id", help="The dataset's id.")],
    out: Annotated[Path, typer.Option(help="The folder to put the files in; made where it is missing.")] = Path(),
    shards: Annotated[bool, typer.Option(help="Also the WebDataset shards, soft labels included.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Download the COCO zip (and the shards), checked against the sha256 that the service keeps."""
    for path in download_dataset(Client(url), dataset_id, out, shards=shards):
        console.print(str(path), markup=False)


def download_dataset(client: Client, dataset_id: str, out: Path, *, shards: bool) -> list[Path]:
    """Fetch what `download` promises; raises `CliError` when a file does not match its sha256."""
    paths = [out / f"{dataset_id}-coco.zip"]
    client.download(f"/v1/datasets/{dataset_id}/exports/coco", paths[0])
    if shards:
        manifest = client.get(f"/v1/datasets/{dataset_id}/manifest")
        for shard in manifest["shards"]:
            path = out / f"{dataset_id}-{shard['index']:05}.tar"
            if client.download(f"/v1/datasets/{dataset_id}/shards/{shard['index']}", path) != shard["sha256"]:
                raise CliError(f"{path}: its sha256 is not the manifest's; download it again")
            paths.append(path)
    return paths
