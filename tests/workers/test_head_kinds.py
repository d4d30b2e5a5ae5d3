"""Every kind of labeller through the whole of a job: fitted, stored, read back by its kind, used, measured."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.heads.kinds import HEAD_KINDS
from service import datasets, jobs, reports, steps, students
from service.bootstrap import Factory
from service.formats import soft_labels
from service.formats.shard import read_shard
from service.job_spec import parse
from service.settings import Settings
from service.tables import Job
from tests import factories, tiny
from workers import runtime
from workers.handlers import HANDLERS

BUDGET = {"steps": 2, "members": 2, "batch_size": 2}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", shard_size=64)


def submit(factory: Factory, generators: Path, kind: str, **changes: Any) -> Job:
    with factory.work() as work:
        document: dict[str, Any] = {
            "kind": "label",
            "annotation_set_id": tiny.make_annotation_set(work).id,
            "image_pool_id": tiny.make_pool(work, parts=(5,)).id,
            "pools": ["encoded"],
            "head": {"kind": kind, **BUDGET},
            "student": {"architecture": "segformer_nano", **tiny.STUDENT_BUDGET},
            **changes,
        }
        if kind != "student":
            document["generator"] = tiny.make_generator(work, generators).id
        return jobs.create(work, parse(document)).job


def run_all(factory: Factory) -> None:
    while runtime.run_next_step(factory, "worker-1", HANDLERS):
        pass


@pytest.mark.parametrize("kind", ["pixel_mlp", "student"])
def test_a_job_of_another_kind_ends_like_any_other(factory: Factory, generators: Path, kind: str) -> None:
    with factory.work() as work:
        held_out = tiny.make_annotation_set(work, first=50, count=2).id
    job = submit(factory, generators, kind, evaluation_set_id=held_out)
    run_all(factory)
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error
    with factory.read() as work:
        card = next(step for step in steps.list_of_job(work, job.id) if step.kind == "fit_head").output["card"]  # type: ignore[index]
        report = reports.get(work, ended.result["report_id"]).content
        student = students.get(work, ended.result["student_id"])
        dataset = datasets.get(work, ended.result["dataset_id"])
        shard = datasets.get_shard(work, dataset.id, 0)
        samples = list(read_shard(io.BytesIO(b"".join(work.storage.get_stream(shard.key)))))
    assert (card["kind"], card["members"]) == (kind, 2)
    assert "estimate" not in card  # there are held-out images: nothing is fitted twice
    assert [row["name"] for row in report["rows"]] == ["student", "head", "baseline"]
    assert report["rows"][1]["title"] != "Head on the generator"
    assert report["filter_curve"]["images"][0] == pytest.approx(report["rows"][1]["miou"])
    assert bool(report["taps"]) == (kind != "student")
    assert len(samples) == 5
    assert samples[0].soft is not None
    assert soft_labels.decode(samples[0].soft).shape == (2, tiny.SIZE, tiny.SIZE)
    has_generator = kind != "student"
    assert (samples[0].meta["generator"] is not None) == has_generator
    for lineage in (student.card, dataset.card):
        assert (lineage["generator"] is not None) == has_generator
        assert lineage["head"]["kind"] == kind


def test_pixel_classifiers_label_sampled_images_too(factory: Factory, generators: Path) -> None:
    job = submit(
        factory,
        generators,
        "pixel_mlp",
        pools=["synthesized"],
        num_images=3,
        sampling_steps=2,
        stop_after="dataset",
    )
    run_all(factory)
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error


def test_features_are_distilled_beside_the_labels_of_pixel_classifiers(factory: Factory, generators: Path) -> None:
    student = {"architecture": "segformer_nano", "mode": "mix", **tiny.STUDENT_BUDGET}
    job = submit(factory, generators, "pixel_mlp", student=student)
    run_all(factory)
    with factory.read() as work:
        recipe = students.get(work, jobs.get(work, job.id).result["student_id"]).card["recipe"]
    assert recipe["feature_timestep"] == 150


def test_a_fit_that_does_not_fit_goes_on_with_smaller_batches(
    factory: Factory, generators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, sizes = HEAD_KINDS["student"], []

    def scarce(generator: Any, examples: Any, classes: Any, config: Any, **options: Any) -> Any:
        sizes.append(config.batch_size)
        if config.batch_size > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return kind.fit(generator, examples, classes, config, **options)

    monkeypatch.setitem(HEAD_KINDS, "student", replace(kind, fit=scarce))
    with factory.work() as work:
        held_out = tiny.make_annotation_set(work, first=50, count=2).id
    head = {"kind": "student", **BUDGET, "batch_size": 8}
    job = submit(factory, generators, "student", head=head, evaluation_set_id=held_out, stop_after="dataset")
    run_all(factory)
    assert factories.job_now(factory, job.id).state == "succeeded"
    assert sizes == [8, 4, 2]
