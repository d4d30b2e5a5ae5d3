"""A job whose student is an instance network: trained, compared, measured with AP, stored as others are."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import jobs, reports, students
from service.bootstrap import Factory
from service.errors import Invalid
from service.job_spec import parse
from tests import factories, tiny
from workers import runtime
from workers.handlers import HANDLERS


def test_an_instance_network_goes_the_whole_way(factory: Factory, generators: Path) -> None:
    with factory.work() as work:
        document = {
            "kind": "label",
            "num_images": 4,
            "sampling_steps": 2,
            "head": tiny.HEAD,
            "generator": tiny.make_generator(work, generators).id,
            "annotation_set_id": tiny.make_annotation_set(work, things=True).id,
            "evaluation_set_id": tiny.make_annotation_set(work, first=50, things=True).id,
            "student": {"architecture": "mask2former_nano", **tiny.STUDENT_BUDGET},
        }
    with factory.work() as work:
        job = jobs.create(work, parse(document)).job
    while runtime.run_next_step(factory, "worker-1", HANDLERS):
        pass
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error
    with factory.read() as work:
        report = reports.get(work, ended.result["report_id"])
        student = students.get(work, ended.result["student_id"])
    assert [row["name"] for row in report.content["rows"]] == ["student", "head", "baseline"]
    assert all(row["ap50"] is not None for row in report.content["rows"])
    assert student.card["recipe"]["labels"] == "hard"
    assert {file["name"] for file in student.files} >= {"config.json", "model.safetensors", "model.onnx", "README.md"}
    readme = next(file["key"] for file in student.files if file["name"] == "README.md")
    assert "AutoModelForUniversalSegmentation" in b"".join(factory.storage.get_stream(readme)).decode()


def test_without_things_there_is_nothing_to_find(factory: Factory) -> None:
    with factory.work() as work:
        few = tiny.make_annotation_set(work).id
    spec = parse({"kind": "train_student", "annotation_set_id": few, "student": {"architecture": "mask2former_nano"}})
    with factory.work() as work, pytest.raises(Invalid, match="finds objects, and no class of the annotation set"):
        jobs.create(work, spec)
