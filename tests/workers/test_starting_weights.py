"""A job whose student starts from the operator's weights: baseline alike, and the card says so."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from models.contracts import ClassSpec
from models.students.build import build_student
from service import jobs, steps, students
from service.bootstrap import Factory
from service.errors import Invalid
from service.job_spec import parse
from service.settings import Settings
from service.tables import Job, Step
from tests import factories, tiny
from workers import runtime
from workers.handlers import HANDLERS

CLASSES = [ClassSpec("ground", background=True), ClassSpec("disc")]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "weights"
    network = build_student("segformer_nano", CLASSES, (32, 32), first_stride=1, seed=9)
    network.save_pretrained(folder / "cells")
    return Settings(data_dir=tmp_path / "data", weights_dir=folder)


def submit(factory: Factory, generators: Path, **student: Any) -> Job:
    with factory.work() as work:
        document = {
            "kind": "label",
            "num_images": 4,
            "sampling_steps": 2,
            "head": tiny.HEAD,
            "generator": tiny.make_generator(work, generators).id,
            "annotation_set_id": tiny.make_annotation_set(work).id,
            "evaluation_set_id": tiny.make_annotation_set(work, first=50).id,
            "student": {"architecture": "segformer_nano", "weights": "cells", **tiny.STUDENT_BUDGET, **student},
        }
    with factory.work() as work:
        return jobs.create(work, parse(document)).job


def run_all(factory: Factory, job: Job) -> dict[str, Step]:
    while runtime.run_next_step(factory, "worker-1", HANDLERS):
        pass
    with factory.read() as work:
        return {step.kind: step for step in steps.list_of_job(work, job.id)}


def test_student_and_baseline_start_from_the_same_weights(factory: Factory, generators: Path) -> None:
    folder = factory.settings.weights_dir
    assert folder is not None
    sha256 = hashlib.sha256((folder / "cells" / "model.safetensors").read_bytes()).hexdigest()
    job = submit(factory, generators)
    done = run_all(factory, job)
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error
    assert done["train_baseline"].output is not None
    assert done["train_baseline"].output["training"]["weights"] == {"name": "cells", "sha256": sha256}
    with factory.read() as work:
        student = students.get(work, ended.result["student_id"])
    assert student.card["recipe"]["weights"] == {"name": "cells", "sha256": sha256}
    readme = next(file["key"] for file in student.files if file["name"] == "README.md")
    assert sha256 in b"".join(factory.storage.get_stream(readme)).decode()


def test_weights_that_do_not_fit_are_refused_before_anything_runs(factory: Factory, generators: Path) -> None:
    with pytest.raises(Invalid, match=r"hidden_sizes \[16, 32, 64, 96\], segformer_b0 has \[32, 64, 160, 256\]"):
        submit(factory, generators, architecture="segformer_b0")
    with pytest.raises(Invalid, match="There are no weights tissue here; there are: cells"):
        submit(factory, generators, weights="tissue")


@pytest.mark.parametrize(("broken", "kind"), [("values", "unfit-weights"), ("gone", "no-weights")])
def test_a_folder_that_is_broken_later_fails_its_step_with_the_reason(
    factory: Factory, generators: Path, broken: str, kind: str
) -> None:
    job = submit(factory, generators)
    folder = factory.settings.weights_dir
    assert folder is not None
    file = folder / "cells" / "model.safetensors"
    if broken == "gone":
        file.unlink()
    else:
        save_file({name: value * float("nan") for name, value in load_file(file).items()}, file, {"format": "pt"})
    done = run_all(factory, job)
    failed = next(step for step in done.values() if step.state == "failed")
    assert failed.error is not None
    assert failed.error["type"] == kind


def test_a_comparison_of_different_weights_is_refused(factory: Factory, generators: Path) -> None:
    job = submit(factory, generators)
    folder = factory.settings.weights_dir
    assert folder is not None
    file = folder / "cells" / "model.safetensors"
    ran: list[str] = []

    def run(kind: str, context: Any) -> Any:
        if "distil" in ran or "train_baseline" in ran:
            save_file({name: value + 1e-3 for name, value in load_file(file).items()}, file, {"format": "pt"})
        ran.append(kind)
        return HANDLERS[kind](context)

    watched = {kind: lambda context, kind=kind: run(kind, context) for kind in HANDLERS}
    while runtime.run_next_step(factory, "worker-1", watched):
        pass
    with factory.read() as work:
        failed = next(step for step in steps.list_of_job(work, job.id) if step.kind == "evaluate")
    assert failed.error is not None
    assert failed.error["type"] == "weights-changed"
