"""Datasets: recorded by shard, sealed once, listed and read by range."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from service import datasets, reports, sealing, students
from service.bootstrap import Factory
from service.datasets import NewExport
from service.errors import BadRequest, Conflict, NotFound
from service.sealing import SealDecisions
from tests.factories import (
    job_now,
    make_job,
    make_pool,
    must_claim,
    new_student,
    record_shard,
    succeed,
)


def filled(factory: Factory, **changes: object) -> str:
    """A dataset with all shards recorded; its id."""
    job = make_job(factory, **changes)
    succeed(factory, must_claim(factory))
    while (step := must_claim(factory)).kind == "label_shard":
        succeed(factory, step)
    return str(job_now(factory, job.id).result["dataset_id"])


def decide(factory: Factory, dataset_id: str) -> SealDecisions:
    with factory.read() as work:
        scores = sealing.image_scores(work, dataset_id)
    kept = scores.uncertainties < np.quantile(scores.uncertainties, 0.9)
    return SealDecisions(kept, np.where(kept, 1.0, 0.0))


def test_seal_writes_decisions_statistics_and_manifest(any_factory: Factory) -> None:
    with any_factory.work() as work:
        pool = make_pool(work)
    dataset_id = filled(any_factory, pools=["synthesized", "encoded"], image_pool_id=pool.id)
    decisions = decide(any_factory, dataset_id)
    with any_factory.work() as work:
        row = sealing.seal(work, dataset_id, decisions, {"generator": "g"})
        assert (row.state, row.num_images, row.num_kept) == ("sealed", 900, int(decisions.kept.sum()))
        assert row.sealed_at is not None
    with any_factory.read() as work:
        row = datasets.get(work, dataset_id)
        manifest = json.loads(b"".join(datasets.read_manifest(work, row)))
        dropped = datasets.list_images(work, dataset_id, kept=False, limit=1_000).items
    assert manifest["num_images"] == 900
    assert [shard["pool"] for shard in manifest["shards"]] == ["synthesized"] * 3 + ["encoded"] * 2
    assert manifest["dropped"] == [image.name for image in dropped]
    assert len(dropped) == 900 - int(decisions.kept.sum())
    assert row.statistics["pools"]["encoded"]["num_images"] == 300
    cell = row.statistics["classes"][1]
    assert cell["name"] == "cell"
    assert cell["pixel_share"] == pytest.approx(96 / 4096)


def test_a_sealed_dataset_never_changes(factory: Factory) -> None:
    dataset_id = filled(factory, num_images=3)
    decisions = decide(factory, dataset_id)
    with factory.work() as work:
        sealing.seal(work, dataset_id, decisions, {})
    with pytest.raises(Conflict), factory.work() as work:
        sealing.seal(work, dataset_id, decisions, {})


def test_decisions_must_cover_every_image(factory: Factory) -> None:
    dataset_id = filled(factory, num_images=3)
    with pytest.raises(Conflict, match="for 2 images"), factory.work() as work:
        sealing.seal(work, dataset_id, SealDecisions(np.array([True, True]), np.ones(2)), {})


def test_recording_a_shard_again_replaces_it(any_factory: Factory) -> None:
    make_job(any_factory)
    succeed(any_factory, must_claim(any_factory))
    step = must_claim(any_factory)
    for _ in range(2):
        with any_factory.work() as work:
            record_shard(work, step)
    with any_factory.read() as work:
        assert datasets.num_recorded(work, step.job_result["dataset_id"]) == 256


@pytest.mark.parametrize("sort", ["index", "uncertainty", "certainty"])
def test_images_page_in_order_without_gaps(any_factory: Factory, sort: datasets.ImageSort) -> None:
    dataset_id = filled(any_factory)
    seen, after = [], None
    with any_factory.read() as work:
        while True:
            page = datasets.list_images(work, dataset_id, sort=sort, after=after, limit=97)
            seen += [(image.uncertainty, image.index) for image in page.items]
            if (after := page.next_after) is None:
                break
    keys = {"index": lambda i: i[1], "uncertainty": lambda i: (-i[0], i[1]), "certainty": lambda i: i}
    assert len(seen) == 600
    assert seen == sorted(seen, key=keys[sort])


@pytest.mark.parametrize("cursor", ["x", "1:x", "1", "nan:1", "1:99999999999"])
def test_foreign_cursors_are_refused(factory: Factory, cursor: str) -> None:
    with pytest.raises(BadRequest), factory.read() as work:
        datasets.list_images(work, "ds_none", sort="uncertainty", after=cursor)


def test_an_image_is_read_by_its_bytes_alone(factory: Factory) -> None:
    make_job(factory, num_images=1)
    succeed(factory, must_claim(factory))
    step = must_claim(factory)
    dataset_id = step.job_result["dataset_id"]
    with factory.work() as work:
        record_shard(work, step)
        key = datasets.get_shard(work, dataset_id, 0).key
        work.storage.put_stream(key, io.BytesIO(bytes(512) + b"png" + bytes(1021) + b"mask"))
        image = datasets.get_image(work, dataset_id, 0)
        assert datasets.read_image(work, image) == b"png"
        assert datasets.read_label(work, image) == b"mask"
        for index in (1, 2**31, 2**63):
            with pytest.raises(NotFound):
                datasets.get_image(work, dataset_id, index)


def test_exports_students_and_reports_are_recorded(factory: Factory) -> None:
    dataset_id = filled(factory, num_images=3)
    with factory.work() as work:
        job_id = datasets.get(work, dataset_id).job_id
        for number in (1, 2):
            new = NewExport("coco", f"datasets/x/exports/coco-{number}.zip", "0" * 64, number, {"ok": True})
            datasets.record_export(work, dataset_id, new)
        assert datasets.get_export(work, dataset_id, "coco").num_bytes == 2
        student = students.record(work, job_id, new_student(dataset_id))
        assert students.file(student, "config.json").num_bytes == 2
        with pytest.raises(NotFound):
            students.file(student, "../config.json")
        report = reports.record(work, job_id, {"miou": 0.5}, student_id=student.id)
    assert job_now(factory, job_id).result == {
        "dataset_id": dataset_id,
        "student_id": student.id,
        "report_id": report.id,
    }
