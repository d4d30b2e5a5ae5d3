"""`label-factory demo`: the whole path on a pack, as a user would walk it, by REST."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli.access import sign_in_link
from cli.client import Client, CliError, Json
from cli.datasets import download_dataset
from cli.output import console
from cli.packs import Pack, read_pack
from cli.reports import report_table
from cli.supervisor import running_service
from cli.watch import watch

#: Stand-alone scripts that need nothing of ours; they ship beside the examples for users to copy.
VERIFY = Path(__file__).resolve().parent.parent / "examples" / "verify"


def demo(
    pack: Annotated[Path, typer.Option(help="A folder in pack form.")] = Path("examples/portraits"),
    data: Annotated[Path, typer.Option(help="The one folder that holds everything.")] = Path("data"),
    labels: Annotated[int, typer.Option(min=2, help="How many annotated images to use.")] = 5,
    seeds: Annotated[int, typer.Option(min=1, max=20, help="How many jobs, with seeds 0, 1, ...")] = 1,
    generator: Annotated[
        Path | None, typer.Option(help="A trained generator's directory.", exists=True, file_okay=False)
    ] = None,
    generator_minutes: Annotated[float, typer.Option(min=0.1, help="Training time where there is none.")] = 25.0,
    student_steps: Annotated[
        int, typer.Option(min=1, help="Steps of the student and its baseline; a job's own default is three times this.")
    ] = 450,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """A few labels in; dataset, student and report out, each checked with the tools that users have."""
    about = read_pack(pack, generator)
    allowed = about.generator.resolve().parent if about.generator else None
    with running_service(data, port=port, generators=allowed) as supervisor:
        client = supervisor.client()
        console.print(
            f"Label Factory runs at {supervisor.url}, its dashboard too; everything stays in {data.resolve()}"
        )
        console.print(f"sign in: {sign_in_link(client)}", soft_wrap=True)
        spec = prepare(client, about, labels, generator_minutes) | {"student": {"steps": student_steps}}
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
    few = pack.upload_annotations(client, "few.zip", f"{pack.name} few", first=labels)
    test = pack.upload_annotations(client, "test.zip", f"{pack.name} test")
    console.print(f"uploaded {few['num_images']} annotated images and {test['num_images']} held-out ones")
    pool_id = pack.upload_pool(client)["id"] if pack.unlabelled else None
    body: Json = {"kind": "label", "annotation_set_id": few["id"], "evaluation_set_id": test["id"]}
    body["generator"] = pack.generator_name(client, pool_id, minutes)
    if pool_id:
        body |= {"image_pool_id": pool_id, "pools": ["encoded"]}
    return body


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
