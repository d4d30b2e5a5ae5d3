"""`label-factory benchmark PACK_DIR`: every way to use a pack's few labels, run as jobs and measured alike."""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli.benchmark.record import Record, write_json
from cli.benchmark.results import Point, as_json, points
from cli.benchmark.rows import ROWS, Materials, cells, chosen_rows, tasks
from cli.benchmark.runner import Runner
from cli.benchmark.tables import render
from cli.client import Client, CliError, Json
from cli.output import console, notices
from cli.packs import Pack, read_pack
from cli.shipped_weights import make_encoder, make_weights
from cli.supervisor import running_service


def benchmark(
    pack_dir: Annotated[Path, typer.Argument(metavar="PACK_DIR", help="A folder in pack form.", file_okay=False)],
    out: Annotated[
        Path, typer.Option(help="Results, and all that the service keeps; a run goes on from benchmark.json.")
    ],
    labels: Annotated[
        str, typer.Option(help="Numbers of labels, as far as the pack has them; all rows at the two smallest.")
    ] = "5,10,20,40",
    seeds: Annotated[int, typer.Option(min=1, max=20, help="Seeds 0, 1, ...")] = 3,
    generator: Annotated[
        Path | None, typer.Option(help="A generator's directory.", exists=True, file_okay=False)
    ] = None,
    generator_minutes: Annotated[float, typer.Option(min=0.1, help="Training time where there is none.")] = 25.0,
    images: Annotated[int, typer.Option(min=0, help="Images to synthesize; 0: rows without samples only.")] = 500,
    student_steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of every student.")] = None,
    head_steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps of every head.")] = None,
    whole_budget_steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the whole budget; by this run's clock where none are given.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help=f"Only these, of {', '.join(ROWS)}.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes; the cores are shared out.")] = 1,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
) -> None:
    """Measure a pack: how many hand-made labels is one label worth here? A run that was stopped goes on."""
    pack = read_pack(pack_dir, generator)
    if pack.unlabelled is None:
        raise CliError(f"{pack.folder} has no unlabelled.zip, whose images most rows learn from")
    record, counts = Record(out), _counts(labels)
    generators, encoder = _generators(pack, out / "generators")
    weights = make_weights(out / "weights")
    wanted = chosen_rows(rows, sampled=images > 0, encoder=encoder is not None, weights=weights is not None)
    service = running_service(
        out / "service", port=port, generators=generators, weights=out / "weights", workers=workers
    )
    fixed: Json = {"images": images, "student_steps": student_steps, "head_steps": head_steps}
    if whole_budget_steps is not None:
        fixed["whole_budget_steps"] = whole_budget_steps
    with service as supervisor:
        client = supervisor.client()
        console.print(f"Label Factory runs at {supervisor.url}; everything stays in {out.resolve()}")
        uploads, counts = _upload(client, record, pack, counts)
        facts = with_fixed(record.facts() | _facts(record, uploads), fixed)
        record.keep_facts(facts)
        name, budget_known = None, "whole_budget_steps" in facts
        if any(row.generator or (row.whole_budget and not budget_known) for row in wanted):
            name = _generator(client, record, pack, uploads["pool"], generator_minutes)
        grid = cells(counts, uploads["all_labels"], seeds)
        materials = Materials(
            few={int(count): set_id for count, set_id in uploads["few"].items()},
            test=uploads["test"],
            pool=uploads["pool"],
            generator=name,
            encoder=encoder,
            weights=weights,
            num_images=images,
            student_steps=student_steps,
            head_steps=head_steps,
        )
        jobs = tasks(wanted, grid, materials, budget_known=budget_known)
        runner = Runner(client, record, uploads["run_id"], jobs, first=grid[0][0])
        try:
            runner.run(in_flight=2 * workers)
        finally:
            report(record, runner.failed)
    if runner.failed:
        raise CliError(f"{len(runner.failed)} jobs failed; the same command tries them again")


def with_fixed(facts: Json, fixed: Json) -> Json:
    """The facts with options that rows share. Raises `CliError` where the rows kept so far had another value.

    Without images (0) no row had any, so that a number may come later, and stays.
    """
    facts = {name: value for name, value in facts.items() if (name, value) != ("images", 0)}
    for name, value in fixed.items():
        if (name, value) == ("images", 0):
            continue
        if facts.get(name, value) != value:
            option = f"--{name.replace('_', '-')}"
            before, now = ("the default" if chosen is None else chosen for chosen in (facts[name], value))
            raise CliError(f"{option}: this benchmark was begun with {before}, not {now}; choose another --out")
        facts[name] = value
    return facts


def with_digest(facts: Json, digest: str, *, given: bool) -> Json:
    """The facts with this generator among those that were used: those trained in its services, or the same given one."""
    known = facts.get("generator_digests", [])
    if given and known and known != [digest]:
        raise CliError("--generator: this benchmark was begun with another generator; choose another --out")
    return {**facts, "generator_digests": list(dict.fromkeys([*known, digest]))}


def report(record: Record, failed: Mapping[str, str]) -> None:
    """Write results.json, README.md and the plots from all that is kept by now, whichever run and service it is of."""
    facts = record.facts()
    found = points(record.jobs())
    write_json(record.folder / "results.json", {**facts, "rows": as_json(found), "failed": dict(failed)})
    page = render(facts, found, failed, _plots(found, record.folder))
    (record.folder / "README.md").write_text(page, encoding="utf-8")
    console.print(f"\n{page}", markup=False)
    console.print(f"written to {record.folder / 'README.md'} and results.json")


def _generator(client: Client, record: Record, pack: Pack, pool_id: str, minutes: float) -> str:
    """The name of the pack's generator, trained where there is none; the record keeps it and its digest."""
    name = pack.generator_name(client, pool_id, minutes)
    digest = next(str(known["digest"]) for known in client.items("/v1/generators") if known["name"] == name)
    record.keep_facts(with_digest({**record.facts(), "generator": name}, digest, given=pack.generator is not None))
    return name


def _facts(record: Record, uploads: Json) -> Json:
    """What this run adds to what is known: how many images of each kind, the machine, its command."""
    counts = {name: uploads[name] for name in ("unlabelled", "held_out", "all_labels")}
    command = shlex.join(["label-factory", *sys.argv[1:]])
    commands = list(dict.fromkeys([*record.facts().get("commands", []), command]))
    return {**counts, "device": _device(), "commands": commands}


def _upload(client: Client, record: Record, pack: Pack, counts: list[int]) -> tuple[Json, list[int]]:
    """Upload what this service has not yet; ids are kept at once, so that nothing is sent twice.

    Answers with these ids, and with those numbers of labels that the pack has.
    """
    known = record.facts().get("pack")
    if known not in (None, pack.name):
        raise CliError(f"{record.folder} holds a benchmark of {known}; choose another --out")
    record.keep_facts({**record.facts(), "pack": pack.name})
    ids = record.uploads()
    if "pool" not in ids:
        sealed = pack.upload_pool(client)
        ids |= {"pool": sealed["id"], "unlabelled": sealed["num_images"], "run_id": f"benchmark/{sealed['id']}"}
        record.keep_uploads(ids)
    if "test" not in ids:
        test = pack.upload_annotations(client, "test.zip", f"{pack.name} test")
        every = pack.upload_annotations(client, "few.zip", f"{pack.name}, all labels")
        ids |= {"test": test["id"], "held_out": test["num_images"], "all_labels": every["num_images"]}
        ids["few"] = {str(every["num_images"]): every["id"]}
        record.keep_uploads(ids)
    counts = within(counts, ids["all_labels"], pack.folder / "few.zip")
    for count in counts:
        if str(count) not in ids["few"]:
            few = pack.upload_annotations(client, "few.zip", f"{pack.name}, {count} labels", first=count)
            ids["few"][str(count)] = few["id"]
            record.keep_uploads(ids)
    return ids, counts


def within(counts: Sequence[int], all_labels: int, few: Path) -> list[int]:
    """Those numbers of labels that there are; all of them are measured in any case. Raises `CliError` where none is left."""
    kept = [count for count in counts if count <= all_labels]
    if not kept:
        raise CliError(f"--labels {counts[0]}: {few} has {all_labels} annotated images")
    if left_out := [str(count) for count in counts if count > all_labels]:
        notices.print(
            f"{few} has {all_labels} annotated images: --labels {','.join(left_out)} is left out", markup=False
        )
    return kept


def _counts(labels: str) -> list[int]:
    try:
        counts = sorted({int(count) for count in labels.split(",")})
    except ValueError:
        counts = []
    if not counts or counts[0] < 2:
        raise CliError(f"--labels {labels}: must be numbers from 2 on, such as 5,10,20,40")
    return counts


def _generators(pack: Pack, folder: Path) -> tuple[Path, str | None]:
    """The folder from which the service registers the given generator and the encoder, and the encoder's name."""
    folder.mkdir(parents=True, exist_ok=True)
    if pack.generator is not None and not (folder / pack.generator.resolve().name).exists():
        shutil.copytree(pack.generator, folder / pack.generator.resolve().name)
    return folder, make_encoder(folder)


def _plots(found: Sequence[Point], folder: Path) -> list[str]:
    if find_spec("matplotlib") is None:
        notices.print("without plots: they need matplotlib, `pip install 'label-factory[benchmark]'`", markup=False)
        return []
    names: list[str] = import_module("cli.benchmark.plots").draw(found, folder)
    return names


def _device() -> str:
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else 'a CPU')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "an unknown device"
