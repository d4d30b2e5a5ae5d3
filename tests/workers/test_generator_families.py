"""Generators of other families in a job: from the operator's folder to labelled images, or to a reason why not."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service import datasets, jobs, steps
from service.bootstrap import Factory
from service.errors import Invalid
from service.formats.shard import ShardSample, read_shard
from service.job_spec import parse
from service.tables import Job
from tests import tiny
from tests.models.generators import tiny_families
from workers import artifacts, runtime
from workers.context import Outcome, StepContext
from workers.handlers import HANDLERS

SIZE = (tiny.SIZE, tiny.SIZE)
LATENT = partial(tiny_families.latent_diffusion, size=SIZE, prompts=["a disc", "a ring"], guidance_scale=3.0)


def make_job(factory: Factory, directory: Path, **changes: Any) -> Job:
    with factory.work() as work:
        document: dict[str, Any] = {
            "kind": "label",
            "generator": tiny.make_generator(work, directory).id,
            "annotation_set_id": tiny.make_annotation_set(work).id,
            "image_pool_id": tiny.make_pool(work, parts=(3,)).id,
            "pools": ["synthesized", "encoded"],
            "num_images": 4,
            "sampling_steps": 2,
            "head": tiny.HEAD,
            "stop_after": "dataset",
            **changes,
        }
        return jobs.create(work, parse(document)).job


def job_now(factory: Factory, job_id: str) -> Job:
    with factory.read() as work:
        return jobs.get(work, job_id)


def error_of_first_step(factory: Factory, job_id: str) -> dict[str, Any]:
    with factory.read() as work:
        (step,) = steps.list_of_job(work, job_id)
        assert step.error is not None
        return step.error


def samples(factory: Factory, dataset_id: str) -> list[ShardSample]:
    with factory.read() as work:
        keys = [datasets.get_shard(work, dataset_id, index).key for index in range(2)]
        return [sample for key in keys for sample in read_shard(io.BytesIO(b"".join(work.storage.get_stream(key))))]


@pytest.mark.parametrize("write", [LATENT, tiny_families.dit], ids=["latent_diffusion", "dit"])
def test_a_registered_generator_labels_sampled_and_real_images(
    factory: Factory, tmp_path: Path, write: Callable[[Path], Path]
) -> None:
    job = make_job(factory, write(tmp_path / "generator"))
    while runtime.run_next_step(factory, "worker-1", HANDLERS):
        pass
    done = job_now(factory, job.id)
    assert (done.state, done.error) == ("succeeded", None)
    images = samples(factory, done.result["dataset_id"])
    assert [image.meta["pool"] for image in images] == ["synthesized"] * 4 + ["encoded"] * 3
    assert all(image.label_HW is not None and image.label_HW.shape == SIZE for image in images)
    assert np.array_equal(images[4].image_HWC, tiny.disc(1000)[0])
    assert not np.array_equal(images[0].image_HWC, images[1].image_HWC)


def test_a_gan_is_registered_and_its_jobs_are_refused_with_a_reason(factory: Factory, tmp_path: Path) -> None:
    directory = tiny_families.stylegan2(tmp_path / "gan")
    with pytest.raises(Invalid) as caught:
        make_job(factory, directory, head={})
    assert {error["place"] for error in caught.value.errors} == {"pools", "generator"}
    with pytest.raises(Invalid, match="cannot encode real images; name a frozen encoder beside it"):
        make_job(factory, directory, head={}, pools=["synthesized"])


def test_a_generator_too_large_for_the_memory_is_not_even_fetched(factory: Factory, tmp_path: Path) -> None:
    job = make_job(factory, LATENT(tmp_path / "large"))

    def load(context: StepContext) -> Outcome:
        try:
            artifacts.load_feature_source(context, free=lambda _device: 1_000_000)
        finally:
            assert not (context.scratch / "generator").exists()
        return Outcome({})

    runtime.run_next_step(factory, "worker-1", {"fit_head": load})
    error = error_of_first_step(factory, job.id)
    assert error["type"] == "generator-too-large"
    assert "0.00 GB are free on cpu" in error["detail"]
    assert job_now(factory, job.id).state == "failed"


def test_a_directory_that_its_family_cannot_read_is_named(factory: Factory, tmp_path: Path) -> None:
    job = make_job(factory, tiny_families.latent_diffusion(tmp_path / "odd", size=SIZE, promt="a disc"))
    runtime.run_next_step(factory, "worker-1", HANDLERS)
    error = error_of_first_step(factory, job.id)
    assert error["type"] == "broken-generator"
    assert "['promt'] are not known" in error["detail"]
    assert job_now(factory, job.id).state == "failed"
