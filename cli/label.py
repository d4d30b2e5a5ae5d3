"""`label-factory label FEW UNLABELLED`: from a few labels to a dataset, a network and a report, in one command."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from zipfile import ZIP_STORED, ZipFile

import typer

from cli.client import Client, CliError, Json
from cli.datasets import download_dataset
from cli.output import console
from cli.reports import report_table
from cli.shipped_weights import make_encoder
from cli.submission import submit_or_resume
from cli.supervisor import running_service
from cli.watch import watch

DEFAULT_MINUTES = 25.0
"""Training of a generator where no frozen encoder is at hand."""
ASKED = "label.json"
"""In the output folder: what was asked and the ids of what was uploaded for it, so that a stopped command goes on."""


def label(
    few: Annotated[
        Path, typer.Argument(help="A zip or folder: images/ with annotations.json (COCO) or masks/.", exists=True)
    ],
    unlabelled: Annotated[Path, typer.Argument(help="A zip or folder of images of the same size.", exists=True)],
    out: Annotated[Path, typer.Option(help="Where the dataset, the network and the report go.")] = Path("labelled"),
    test: Annotated[
        Path | None, typer.Option(help="Annotated images that nothing learns from: the report's truth.", exists=True)
    ] = None,
    classes: Annotated[str | None, typer.Option(help="Class names by mask value, where the zip has no list.")] = None,
    things: Annotated[str | None, typer.Option(help="Classes whose instances count: a,b.")] = None,
    generator_minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Train a generator on the unlabelled images too, and let both label."),
    ] = None,
    student_steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of the network.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    data: Annotated[Path, typer.Option(help="The one folder that holds all the service has.")] = Path("data"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """From a few labels to a labelled dataset, a small network and a report. A run that was stopped goes on."""
    asked: Json = {
        "few": str(few.resolve()),
        "unlabelled": str(unlabelled.resolve()),
        "test": None if test is None else str(test.resolve()),
        "generator_minutes": generator_minutes,
        "student_steps": student_steps,
        "seed": seed,
    }
    known = _known(out, asked)
    encoder = make_encoder(data / "generators")
    with running_service(data, port=port, generators=data / "generators") as supervisor:
        client = supervisor.client()
        console.print(f"Label Factory runs at {supervisor.url}; everything stays in {data.resolve()}")
        if "uploads" not in known:
            known["uploads"] = _upload(client, few, unlabelled, test, classes=classes, things=things)
            _keep(out, known)
        minutes = generator_minutes or (None if encoder else DEFAULT_MINUTES)
        trained = None if minutes is None else _train(client, known["uploads"]["image_pool_id"], minutes)
        body = {**_body(known["uploads"], trained, encoder), "seed": seed, "name": few.stem}
        if student_steps is not None:
            body["student"] = {"steps": student_steps}
        job = submit_or_resume(client, body, f"label/{known['uploads']['annotation_set_id']}/{seed}")
        console.print(f"job {job['id']}: {supervisor.url}/jobs/{job['id']}")
        job = watch(client, job["id"])
        _take_home(client, job["result"], out)


def _known(out: Path, asked: Json) -> Json:
    """What an earlier run of the same command kept. Raises `CliError` where another one wrote into this folder."""
    path = out / ASKED
    if not path.exists():
        return {"asked": asked}
    known: Json = json.loads(path.read_text(encoding="utf-8"))
    if known.get("asked") != asked:
        raise CliError(f"{out}: holds the answer to another command; choose another --out")
    return known


def _keep(out: Path, known: Json) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / ASKED).write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


def _upload(client: Client, few: Path, unlabelled: Path, test: Path | None, **reading: str | None) -> Json:
    """Send all there is; the ids as a job names them."""
    with _zipped(few) as archive:
        sent = client.upload("/v1/annotation-sets", archive, name=few.stem, **reading)
    ids = {"annotation_set_id": sent["id"]}
    console.print(f"uploaded {sent['num_images']} annotated images: {', '.join(c['name'] for c in sent['classes'])}")
    if test is not None:
        with _zipped(test) as archive:
            held_out = client.upload("/v1/annotation-sets", archive, name=test.stem, **reading)
        ids["evaluation_set_id"] = held_out["id"]
        console.print(f"uploaded {held_out['num_images']} held-out images")
    pool = client.post("/v1/image-pools", {"name": unlabelled.stem})
    with _zipped(unlabelled) as archive:
        client.upload(f"/v1/image-pools/{pool['id']}/images", archive)
    sealed = client.post(f"/v1/image-pools/{pool['id']}:seal")
    console.print(f"uploaded {sealed['num_images']} unlabelled images")
    return {**ids, "image_pool_id": pool["id"]}


@contextmanager
def _zipped(path: Path) -> Iterator[Path]:
    """The zip itself, or a folder as one for as long as it is sent."""
    if path.is_file():
        yield path
        return
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    with TemporaryDirectory() as folder:
        target = Path(folder) / f"{path.name}.zip"
        with ZipFile(target, "w", ZIP_STORED) as archive:
            for file in files:
                archive.write(file, file.relative_to(path).as_posix())
        yield target


def _train(client: Client, pool_id: str, minutes: float) -> str:
    """The name of a generator trained on the pool, once."""
    name = f"{pool_id}-{minutes:g}min"
    console.print(f"training a generator on the unlabelled images for {minutes:g} minutes")
    spec = {"kind": "train_generator", "name": name, "image_pool_id": pool_id, "minutes": minutes}
    watch(client, submit_or_resume(client, spec, name)["id"])
    return name


def _body(uploads: Json, trained: str | None, encoder: str | None) -> Json:
    """The job: real images, labelled by the generator, the encoder or both."""
    body: dict[str, Any] = {"kind": "label", "pools": ["encoded"], **uploads, "generator": trained or encoder}
    return body if trained is None or encoder is None else {**body, "encoder": encoder}


def _take_home(client: Client, result: Json, out: Path) -> None:
    """Download what was made and print the report."""
    download_dataset(client, result["dataset_id"], out / "dataset", shards=False)
    client.download_folder(f"/v1/students/{result['student_id']}/archive", out / "student")
    report = client.get(f"/v1/reports/{result['report_id']}")["content"]
    (out / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    if report.get("rows"):
        console.print(report_table([report]))
    console.print(report.get("verdict", ""), markup=False)
    console.print(f"{out / 'dataset'} has the labelled images, {out / 'student'} the network for transformers")
