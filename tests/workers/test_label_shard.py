"""Shards from tiny real networks: what is in them, and that an interrupted shard ends as the same bytes."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import datasets, jobs, steps
from service.bootstrap import Factory
from service.formats import soft_labels
from service.formats.shard import ShardSample, read_shard
from service.job_spec import parse
from service.settings import Settings
from service.tables import Job, Step
from tests import factories, tiny
from workers import label_shard, runtime
from workers.context import Outcome, StepContext
from workers.handlers import HANDLERS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data", shard_size=256, lease_seconds=9.0, heartbeat_seconds=0.2, progress_event_seconds=0.1
    )


def make_job(factory: Factory, generators: Path, **changes: Any) -> Job:
    with factory.work() as work:
        document: dict[str, Any] = {
            "kind": "label",
            "generator": tiny.make_generator(work, generators).id,
            "num_images": 40,
            "sampling_steps": 2,
            "head": tiny.HEAD,
            "stop_after": "dataset",
            **changes,
        }
        if "annotation_set_id" not in document:
            document["annotation_set_id"] = tiny.make_annotation_set(work).id
        return jobs.create(work, parse(document)).job


def run_step(factory: Factory, handlers: dict[str, Any] = HANDLERS) -> None:
    assert runtime.run_next_step(factory, "worker-1", handlers)


def step_of(factory: Factory, job_id: str, kind: str) -> Step:
    with factory.read() as work:
        return next(step for step in steps.list_of_job(work, job_id) if step.kind == kind)


def samples_of(factory: Factory, job_id: str, index: int = 0) -> list[ShardSample]:
    with factory.read() as work:
        shard = datasets.get_shard(work, jobs.get(work, job_id).result["dataset_id"], index)
        return list(read_shard(io.BytesIO(b"".join(work.storage.get_stream(shard.key)))))


def test_a_shard_of_sampled_images(factory: Factory, generators: Path) -> None:
    job = make_job(factory, generators)
    run_step(factory)
    run_step(factory)
    samples = samples_of(factory, job.id)
    assert [sample.key for sample in samples] == [f"{index:07}" for index in range(40)]
    sample = samples[17]
    assert sample.soft is not None
    assert sample.label_HW is not None
    probabilities_CHW = soft_labels.decode(sample.soft)
    assert probabilities_CHW.shape == (2, tiny.SIZE, tiny.SIZE)
    # A head of two steps is unsure; where the classes differ by more than the soft labels' precision, both must agree.
    decided_HW = np.abs(probabilities_CHW[0] - probabilities_CHW[1]) > 0.02
    assert decided_HW.any()
    assert (probabilities_CHW.argmax(0) == sample.label_HW)[decided_HW].all()
    assert sample.meta["class_pixels"] == np.bincount(sample.label_HW.ravel(), minlength=2).tolist()
    with factory.read() as work:
        image = datasets.get_image(work, jobs.get(work, job.id).result["dataset_id"], 17)
        assert datasets.read_image(work, image) == sample.image_png
        assert image.class_pixels == sample.meta["class_pixels"]
    assert "sample" in factories.event_types(factory, job.id)
    step = step_of(factory, job.id, "label_shard")
    assert step.progress is not None
    assert (step.progress["done"], step.progress["unit"]) == (40, "images")
    assert [key for key in factory.storage.list("steps/") if "checkpoint" in key] == []


def test_a_shard_of_real_images_of_things(factory: Factory, generators: Path) -> None:
    with factory.work() as work:
        pool, few = tiny.make_pool(work, parts=(5, 4)).id, tiny.make_annotation_set(work, things=True).id
    job = make_job(
        factory, generators, annotation_set_id=few, image_pool_id=pool, pools=["encoded"], max_encoded_images=7
    )
    run_step(factory)
    run_step(factory)
    samples = samples_of(factory, job.id)
    assert len(samples) == 7
    assert np.array_equal(samples[6].image_HWC, tiny.disc(1006)[0])
    assert samples[6].instances_HW is not None
    assert samples[6].soft is not None
    assert soft_labels.shape(samples[6].soft)[0] == 3  # two classes and the contour of the things


def test_uncertain_pixels_are_ignored_where_asked(factory: Factory, generators: Path) -> None:
    job = make_job(factory, generators, num_images=4, filter={"ignore_pixel_share": 0.25})
    run_step(factory)
    run_step(factory)
    ignored = np.mean([(sample.label_HW == 255).mean() for sample in samples_of(factory, job.id)])
    assert 0.1 < ignored < 0.26


def test_out_of_memory_halves_the_batch_and_goes_on(
    factory: Factory, generators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    real = label_shard.label_synthesized

    def scarce(labeller: Any, seeds: list[int], **options: Any) -> Any:
        sizes.append(len(seeds))
        if len(seeds) > 8:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(labeller, seeds, **options)

    monkeypatch.setattr(label_shard, "label_synthesized", scarce)
    job = make_job(factory, generators, num_images=20)
    run_step(factory)
    run_step(factory)
    assert sizes == [16, 8, 8, 4]
    assert len(samples_of(factory, job.id)) == 20


def test_a_full_store_fails_the_step_and_the_worker_lives(
    factory: Factory, generators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.errors import StorageFull

    job = make_job(factory, generators)
    run_step(factory)
    monkeypatch.setattr(StepContext, "put", lambda *_: (_ for _ in ()).throw(StorageFull("The object store is full.")))
    run_step(factory)
    error = step_of(factory, job.id, "label_shard").error
    assert error is not None
    assert error["type"] == "storage-full"
    monkeypatch.undo()
    with factory.work() as work:
        jobs.retry(work, job.id)
    run_step(factory)
    assert step_of(factory, job.id, "label_shard").state == "succeeded"


def fitted_once(factory: Factory, job: Job) -> dict[str, Any]:
    """A fit_head handler that gives a second job the head of the first."""
    output = step_of(factory, job.id, "fit_head").output
    assert output is not None
    return {**HANDLERS, "fit_head": lambda _context: Outcome(output)}


def test_a_worker_killed_in_the_middle_resumes_and_the_bytes_are_the_same(
    factory: Factory, generators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make_job(factory, generators, num_images=112, sampling_steps=8)
    for _ in ("fit_head", "label_shard", "seal_dataset", "export_dataset"):
        run_step(factory)
    undisturbed = step_of(factory, first.id, "label_shard").output
    few = first.spec["annotation_set_id"]
    second = make_job(factory, generators, annotation_set_id=few, num_images=112, sampling_steps=8)
    run_step(factory, fitted_once(factory, first))
    kill_in_the_middle(factory, second.id)
    factories.lose(factory, step_of(factory, second.id, "label_shard").id)
    labelled: list[int] = []
    real = label_shard.label_synthesized
    monkeypatch.setattr(
        label_shard, "label_synthesized", lambda *given, **options: labelled.extend(given[1]) or real(*given, **options)
    )
    run_step(factory)
    resumed = step_of(factory, second.id, "label_shard")
    assert (resumed.state, resumed.attempt) == ("succeeded", 2)
    assert 0 < len(labelled) < 112
    assert undisturbed is not None
    assert resumed.output is not None
    assert resumed.output["sha256"] == undisturbed["sha256"]


def kill_in_the_middle(factory: Factory, job_id: str) -> None:
    """kill -9 a worker once it has finished a batch of the shard and not all."""
    with worker_in_the_middle(factory, job_id) as worker:
        worker.send_signal(signal.SIGKILL)
    assert step_of(factory, job_id, "label_shard").state == "running", "the shard was done before the kill"


def test_a_worker_asked_to_end_hands_its_shard_over(factory: Factory, generators: Path) -> None:
    job = make_job(factory, generators, num_images=256, sampling_steps=10)
    run_step(factory)
    with worker_in_the_middle(factory, job.id) as worker:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    step = step_of(factory, job.id, "label_shard")
    assert (step.state, step.attempt, step.owner) == ("ready", 0, None)
    assert step.checkpoint_key is not None
    assert factory.storage.exists(step.checkpoint_key)


@contextmanager
def worker_in_the_middle(factory: Factory, job_id: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that has finished some batches of the job's shard and is at the next."""
    settings = factory.settings
    environment = {
        **os.environ,
        "LABEL_FACTORY_DATA_DIR": str(settings.data_dir),
        "LABEL_FACTORY_SHARD_SIZE": str(settings.shard_size),
        "LABEL_FACTORY_TORCH_THREADS": "1",
    }
    root = Path(__file__).parents[2]
    worker = subprocess.Popen([sys.executable, "-m", "workers.embedded"], env=environment, cwd=root)
    deadline = time.monotonic() + 120
    try:
        while step_of(factory, job_id, "label_shard").checkpoint_key is None:
            assert worker.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield worker
    finally:
        worker.kill()
        worker.wait()
