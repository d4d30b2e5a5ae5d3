"""`label-factory generators`: what draws the images and whose features are read."""

from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client
from cli.listing import add_delete, add_link, add_list, add_show
from cli.options import DEFAULT_URL, AsJson, Url
from cli.output import console, show
from cli.submission import submit_or_resume
from cli.watch import watch

app = typer.Typer(no_args_is_help=True, help="Image generators.")
COLUMNS = ("id", "name", "state", "family", "image_height", "image_width", "num_parameters", "created_at")
add_list(app, "generator", "/v1/generators", COLUMNS)
add_show(app, "generator", "/v1/generators", (*COLUMNS, "digest", "job_id"))
add_delete(app, "generator", "/v1/generators", stays="datasets that it labelled stay")
add_link(app, "generator", "/v1/generators", "archive")


@app.command()
def train(
    name: str,
    pool_id: Annotated[str, typer.Argument(help="A sealed pool of unlabelled images.")],
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to train.")] = 25.0,
    base: Annotated[str | None, typer.Option(help="A ready generator to begin with, of the pool's image size.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Train a generator on a pool and follow it to its end."""
    client = Client(url)
    spec = {"kind": "train_generator", "name": name, "image_pool_id": pool_id, "minutes": minutes, "seed": seed}
    if base is not None:
        spec["base_generator"] = base
    job = watch(client, client.post("/v1/jobs", spec)["id"])
    show(client.get(f"/v1/generators/{job['result']['generator_id']}"), as_json=as_json, columns=COLUMNS)


def train_once(client: Client, name: str, pool_id: str, minutes: float) -> str:
    """Train a generator of this name unless it is ready, or go on where that was stopped; returns the name."""
    if any(known["name"] == name and known["state"] == "ready" for known in client.items("/v1/generators")):
        console.print(f"the generator {name} was trained before and is used again")
        return name
    console.print(f"\ntraining a generator on the unlabelled images for {minutes:g} minutes")
    spec = {"kind": "train_generator", "name": name, "image_pool_id": pool_id, "minutes": minutes}
    watch(client, submit_or_resume(client, spec, f"{name}/{pool_id}")["id"])
    return name


@app.command()
def download(
    generator: Annotated[str, typer.Argument(help="Id or name of a generator that was trained here.")],
    out: Annotated[Path | None, typer.Option(help="The folder to make; left out: the generator's name.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Download a trained generator: a diffusers directory with its card, ready for another service's folder."""
    client = Client(url)
    row = client.get(f"/v1/generators/{generator}")
    folder = client.download_folder(f"/v1/generators/{row['id']}/archive", out or Path(row["name"]))
    console.print(str(folder), markup=False)
