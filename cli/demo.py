"""`label-factory demo`: the whole path on a pack, as a user would walk it, by REST."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.client import Client, CliError, Json
from cli.datasets import download_dataset
from cli.output import console
from cli.reports import report_table
from cli.supervisor import running_service
from cli.watch import watch

#: Stand-alone scripts that need nothing of ours; they ship beside the examples for users to copy.
VERIFY = Path(__file__).resolve().parent.parent / "examples" / "verify"


@dataclass(frozen=True)
class Pack:
    """A folder in pack form: `pack.json`, `few.zip`, `test.zip`, and `unlabelled.zip` or `generators/NAME/`."""

    folder: Path
    #: What `pack.json` calls it.
    name: str
    #: Classes whose instances count.
    things: list[str]
    #: A trained generator's directory, or None when one must be trained first.
    generator: Path | None

    @property
    def unlabelled(self) -> Path | None:
        """The unlabelled images, where the pack has them."""
        path = self.folder / "unlabelled.zip"
        return path if path.is_file() else None


def read_pack(folder: Path, generator: Path | None) -> Pack:
    """Read a pack's description; raises `CliError` when something that the demo needs is missing."""
    for name in ("pack.json", "few.zip", "test.zip"):
        if not (folder / name).is_file():
            raise CliError(f"{folder / name}: missing; a pack holds pack.json, few.zip and test.zip")
    about = json.loads((folder / "pack.json").read_text(encoding="utf-8"))
    generator = generator or next(iter(sorted((folder / "generators").glob("*/"))), None)
    if generator is not None and not (generator / "generator.json").is_file():
        raise CliError(
            f"{generator}: no generator.json; a generator is a diffusers directory that this project trained"
        )
    things = [name for name in about["classes"] if name != "background"] if about.get("kind") == "instance" else []
    pack = Pack(folder, str(about["name"]), things, generator)
    if generator is None and pack.unlabelled is None:
        raise CliError(f"{folder} has neither generators/ nor an unlabelled.zip to train one on")
    return pack


def demo(
    pack: Annotated[Path, typer.Option(help="A folder in pack form.")] = Path("examples/portraits"),
    data: Annotated[Path, typer.Option(help="The one folder that holds everything.")] = Path("data"),
    labels: Annotated[int, typer.Option(min=2, help="How many annotated images to use.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="How many jobs, with seeds 0, 1, ...")] = 1,
    generator: Annotated[
        Path | None, typer.Option(help="A trained generator's directory.", exists=True, file_okay=False)
    ] = None,
    generator_minutes: Annotated[float, typer.Option(min=0.1, help="Training time where there is none.")] = 25.0,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """A few labels in; dataset, student and report out, each checked with the tools that users have."""
    about = read_pack(pack, generator)
    allowed = about.generator.resolve().parent if about.generator else None
    with running_service(data, port=port, generators=allowed) as supervisor:
        client = Client(supervisor.url)
        console.print(
            f"Label Factory runs at {supervisor.url}, its dashboard too; everything stays in {data.resolve()}"
        )
        spec = prepare(client, about, labels, generator_minutes)
        reports = []
        for seed in range(seeds):
            job = client.post("/v1/jobs", spec | {"seed": seed, "name": f"{about.name}, {labels} labels, seed {seed}"})
            console.print(f"\njob {job['id']}: {supervisor.url}/jobs/{job['id']}")
            job = watch(client, job["id"])
            reports.append(client.get(f"/v1/reports/{job['result']['report_id']}")["content"])
            take_home(client, job, data / "demo" / f"{about.name}-{seed}", pack / "test.zip", reports[-1])
        print_report(about, labels, reports)
    console.print(f"\n`label-factory up --data {data}` shows it all again at {supervisor.url}/jobs/{job['id']}")


def prepare(client: Client, pack: Pack, labels: int, minutes: float) -> Json:
    """Upload what the job needs (and train a generator where none is given); returns the job's body without its seed."""
    things = ",".join(pack.things) or None
    few = client.upload(
        "/v1/annotation-sets", pack.folder / "few.zip", name=f"{pack.name} few", first=labels, things=things
    )
    test = client.upload("/v1/annotation-sets", pack.folder / "test.zip", name=f"{pack.name} test", things=things)
    console.print(f"uploaded {few['num_images']} annotated images and {test['num_images']} held-out ones")
    pool_id = upload_pool(client, pack) if pack.unlabelled else None
    body: Json = {"kind": "label", "annotation_set_id": few["id"], "evaluation_set_id": test["id"]}
    body["generator"] = generator_for(client, pack, pool_id, minutes)
    if pool_id:
        body |= {"image_pool_id": pool_id, "pools": ["encoded"]}
    return body


def upload_pool(client: Client, pack: Pack) -> str:
    """Upload the unlabelled images into a sealed pool."""
    pool = client.post("/v1/image-pools", {"name": f"{pack.name} unlabelled"})
    assert pack.unlabelled is not None
    client.upload(f"/v1/image-pools/{pool['id']}/images", pack.unlabelled)
    sealed = client.post(f"/v1/image-pools/{pool['id']}:seal")
    console.print(f"uploaded {sealed['num_images']} unlabelled images")
    return str(pool["id"])


def generator_for(client: Client, pack: Pack, pool_id: str | None, minutes: float) -> str:
    """The name of a ready generator: the service registers given ones at its start; else one is trained, once."""
    if pack.generator:
        return pack.generator.resolve().name
    name = f"{pack.name}-{minutes:g}min"
    if any(known["name"] == name and known["state"] == "ready" for known in client.items("/v1/generators")):
        console.print(f"the generator {name} was trained before and is used again")
        return name
    console.print(f"\ntraining a generator on the unlabelled images for {minutes:g} minutes")
    spec = {"kind": "train_generator", "name": name, "image_pool_id": pool_id, "minutes": minutes}
    watch(client, client.post("/v1/jobs", spec)["id"])
    return name


def take_home(client: Client, job: Json, out: Path, test_zip: Path, report: Json) -> None:
    """Download the dataset and the student, and check both outside the service."""
    coco, *shards = download_dataset(client, job["result"]["dataset_id"], out, shards=True)
    student = client.download_folder(f"/v1/students/{job['result']['student_id']}/archive", out / "student")
    (out / "report.json").write_text(json.dumps(report, indent=2), encoding="utf-8")
    found = verify("coco.py", coco, *shards)
    console.print(
        f"checked  {coco}: pycocotools loads it; {found['annotations']} masks of {found['images']} images "
        f"against the label maps: AP {found['average_precision']:.1f}"
    )
    reported = next(row["miou"] for row in report["rows"] if row["name"] == "student")
    found = verify("student.py", student, test_zip, "--expect", f"{reported:.6f}")
    console.print(
        f"checked  {student}: loaded by transformers alone, mIoU {found['miou']:.4f}, reported {reported:.4f}"
    )


def verify(script: str, *arguments: Path | str) -> Json:
    """Run one of the stand-alone checks that ship with the examples; raises `CliError` when it fails."""
    command = [sys.executable, str(VERIFY / script), *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise CliError(f"{' '.join(command)} failed: {(answer.stdout + answer.stderr).strip()[-800:]}")
    found: Json = json.loads(answer.stdout.strip().rpartition("\n")[2])
    return found


def print_report(pack: Pack, labels: int, reports: list[Json]) -> None:
    """The numbers of all seeds in one table, then each report's sentence."""
    title = f"\n{pack.name}: {labels} annotated images, {len(reports)} seed{'s' if len(reports) > 1 else ''}"
    console.print(report_table(reports, title=title))
    for report in reports:
        console.print(report["verdict"])
