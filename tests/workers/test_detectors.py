"""Jobs whose student is a detector: trained, measured by boxes beside the head and the baseline, stored as others are."""

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


def test_a_detector_goes_the_whole_way(factory: Factory, generators: Path) -> None:
    with factory.work() as work:
        document = {
            "kind": "label",
            "num_images": 4,
            "sampling_steps": 2,
            "head": tiny.HEAD,
            "generator": tiny.make_generator(work, generators).id,
            "annotation_set_id": tiny.make_annotation_set(work, things=True).id,
            "evaluation_set_id": tiny.make_annotation_set(work, first=50, things=True).id,
            "student": {"architecture": "rtdetr_nano", **tiny.STUDENT_BUDGET},
        }
    with factory.work() as work:
        job = jobs.create(work, parse(document)).job
    while runtime.run_next_step(factory, "worker-1", HANDLERS):
        pass
    ended = factories.job_now(factory, job.id)
    assert ended.state == "succeeded", ended.error
    with factory.read() as work:
        content = reports.get(work, ended.result["report_id"]).content
        student = students.get(work, ended.result["student_id"])
    rows = {row["name"]: row for row in content["rows"]}
    assert list(rows) == ["student", "head", "baseline"]
    assert all(row["box_ap"] is not None and row["box_ap50"] is not None for row in rows.values())
    assert [row["miou"] is None for row in rows.values()] == [True, False, True]
    assert "box AP" in content["verdict"]
    assert student.card["recipe"]["labels"] == "hard"
    assert {file["name"] for file in student.files} >= {"config.json", "model.safetensors", "model.onnx", "README.md"}


@pytest.mark.parametrize(
    ("things", "side", "message"),
    [
        (False, 32, "finds objects, and no class of the annotation set"),
        (True, 24, "sides are multiples of 32, these are 24x32"),
    ],
)
def test_what_a_detector_cannot_learn_from_is_refused(factory: Factory, things: bool, side: int, message: str) -> None:
    with factory.work() as work:
        row = tiny.make_annotation_set(work, things=things)
        row.image_height = side
        few = row.id
    spec = parse({"kind": "train_student", "annotation_set_id": few, "student": {"architecture": "rtdetr_nano"}})
    with factory.work() as work, pytest.raises(Invalid, match=message):
        jobs.create(work, spec)
