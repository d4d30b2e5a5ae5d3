"""Builds valid rows and carriers; a test states only what differs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from sqlalchemy import update

from service import annotation_sets, datasets, events, image_pools, jobs, steps
from service.annotation_sets import NewAnnotationSet
from service.bootstrap import Factory
from service.clock import database_now
from service.datasets import NewImage, NewShard
from service.ids import new_id
from service.job_spec import LabelSpec, TrainGeneratorSpec, parse
from service.steps import ClaimedStep
from service.students import NewStudent, StudentFile
from service.tables import AnnotationSet, Dataset, Generator, ImagePool, Job, Step, Webhook
from service.unit_of_work import Work
from service.webhooks import EVENT_TYPES

CLASSES = [
    {"name": "background", "thing": False, "color": "#000000", "background": True},
    {"name": "cell", "thing": False, "color": "#ff0000", "background": False},
]


# A safetensors file with one tensor of 3 x 4 half floats.
_HEADER = b'{"w":{"dtype":"F16","shape":[3,4],"data_offsets":[0,24]}}'
WEIGHTS = len(_HEADER).to_bytes(8, "little") + _HEADER + bytes(24)


def make_generator(work: Work, **changes: Any) -> Generator:
    """A ready generator of 64x64 images; its files do not exist."""
    values = {
        "id": new_id("gen"),
        "name": f"generator-{new_id('gen')[-6:]}",
        "state": "ready",
        "family": "unet_diffusion",
        "image_height": 64,
        "image_width": 64,
        "image_channels": 3,
        "num_parameters": 1000,
        "digest": "0" * 64,
        "card": {},
        "key_prefix": "generators/x/1/",
    }
    row = Generator(**{**values, **changes})
    work.session.add(row)
    work.session.flush()
    return row


def make_annotation_set(work: Work, content: bytes = b"a tar", **changes: Any) -> AnnotationSet:
    """A stored annotation set of 5 images of 64x64 with two classes."""
    values = {
        "name": "few",
        "kind": "semantic",
        "classes": CLASSES,
        "num_images": 5,
        "image_height": 64,
        "image_width": 64,
        "statistics": {},
    }
    return annotation_sets.create(work, NewAnnotationSet(**{**values, **changes}), io.BytesIO(content))


def make_pool(work: Work, *, sizes: tuple[int, ...] = (300,), image_size: int = 64, sealed: bool = True) -> ImagePool:
    """A pool with parts of the given numbers of images."""
    pool = image_pools.create(work, "unlabelled")
    for index, number in enumerate(sizes):
        file = io.BytesIO(f"part {index}".encode())
        image_pools.add_part(work, pool.id, file, num_images=number, image_height=image_size, image_width=image_size)
    return image_pools.seal(work, pool.id) if sealed else pool


def label_spec(work: Work, **changes: Any) -> LabelSpec:
    """A sound spec of 600 synthesized images that stops at the dataset; its references are made here."""
    document: dict[str, Any] = {"kind": "label", "num_images": 600, "stop_after": "dataset", **changes}
    if "annotation_set_id" not in document:
        document["annotation_set_id"] = make_annotation_set(work).id
    if "generator" not in document:
        document["generator"] = make_generator(work).id
    spec = parse(document)
    assert isinstance(spec, LabelSpec)
    return spec


def train_spec(work: Work, **changes: Any) -> TrainGeneratorSpec:
    """A sound spec of a generator to train; its pool is made here."""
    document: dict[str, Any] = {"kind": "train_generator", "name": "new-generator", **changes}
    if "image_pool_id" not in document:
        document["image_pool_id"] = make_pool(work).id
    spec = parse(document)
    assert isinstance(spec, TrainGeneratorSpec)
    return spec


def make_webhook(work: Work, *event_types: str) -> Webhook:
    """An enabled webhook for these events, or for all; works while webhooks are off, too."""
    row = Webhook(
        id=new_id("wh"),
        url="https://hooks.example.com/labels",
        event_types=list(event_types or EVENT_TYPES),
        state="enabled",
        secret="whsec_" + "A" * 43 + "=",
    )
    work.session.add(row)
    work.session.flush()
    return row


def make_job(factory: Factory, **changes: Any) -> Job:
    """A committed label job."""
    with factory.work() as work:
        return jobs.create(work, label_spec(work, **changes)).job


def make_dataset(factory: Factory, **changes: Any) -> Dataset:
    """A sealed dataset, with rows but without files, as a label job that stops there leaves it."""
    job = make_job(factory, **changes)
    run_to_end(factory, job.id)
    with factory.work() as work:
        row = datasets.get(work, str(job_now(factory, job.id).result["dataset_id"]))
        row.state = "sealed"
    return row


def claim(factory: Factory, owner: str = "worker-1", queues: tuple[str, ...] = ("gpu", "cpu")) -> ClaimedStep | None:
    """Claim a step in a transaction of its own."""
    with factory.work() as work:
        return steps.claim(work, queues=queues, owner=owner)


def must_claim(factory: Factory, owner: str = "worker-1") -> ClaimedStep:
    """Claim a step; there must be one."""
    step = claim(factory, owner)
    assert step is not None
    return step


def succeed(factory: Factory, step: ClaimedStep, output: dict[str, Any] | None = None) -> None:
    """Record what a step of this kind leaves behind, with rows but without files."""
    with factory.work() as work:
        if step.kind == "label_shard":
            record_shard(work, step)
        steps.record_success(work, step.id, step.token, output or {"kind": step.kind})


def shard_key(step: ClaimedStep) -> str:
    """Where a label_shard step puts its shard."""
    return f"datasets/{step.job_result['dataset_id']}/shards/{step.params['shard_index']:05}-{step.token}.tar"


def record_shard(work: Work, step: ClaimedStep, *, sha256: str = "0" * 64) -> None:
    """Record the shard of a label_shard step with made-up images."""
    params = step.params
    images = [new_image(params["first_index"] + i, name=f"{params['pool']}-{i:06}") for i in range(params["count"])]
    shard = NewShard(
        index=params["shard_index"],
        key=shard_key(step),
        sha256=sha256,
        num_bytes=1,
        num_images=len(images),
        pool_kind=params["pool"],
    )
    datasets.record_shard(work, step.job_result["dataset_id"], shard, images)


def new_image(index: int, **changes: Any) -> NewImage:
    """One image; its uncertainty follows from its index."""
    values = {
        "index": index,
        "name": f"{index:06}",
        "uncertainty": (index * 37 % 101) / 101,
        "class_pixels": [4000, 96],
        "image_offset": 512,
        "image_bytes": 3,
        "label_offset": 1536,
        "label_bytes": 4,
    }
    return NewImage(**{**values, **changes})


def new_student(dataset_id: str, **changes: Any) -> NewStudent:
    """A student with one file."""
    student_id = new_id("stu")
    values = {
        "id": student_id,
        "dataset_id": dataset_id,
        "name": "student",
        "architecture": "segformer_b0",
        "num_parameters": 10,
        "classes": CLASSES,
        "files": [StudentFile("config.json", f"students/{student_id}/1/config.json", 2, "0" * 64)],
        "archive_key": f"students/{student_id}/1/student.zip",
        "num_bytes": 5,
        "card": {},
    }
    return NewStudent(**{**values, **changes})


def run_to_end(factory: Factory, job_id: str, *, limit: int = 100) -> list[str]:
    """Claim and succeed until nothing is left; the kinds in the order they ran."""
    kinds = []
    for _ in range(limit):
        step = claim(factory)
        if step is None:
            return kinds
        assert step.job_id == job_id
        kinds.append(step.kind)
        succeed(factory, step)
    raise AssertionError("the job does not end")


def lose(factory: Factory, step_id: str) -> None:
    """Let a step's lease run out, as if its worker had been silent."""
    with factory.work() as work:
        work.session.execute(update(Step).where(Step.id == step_id).values(lease_until=database_now(-1)))


def state_of(factory: Factory, step_id: str) -> str:
    """State of a step now."""
    with factory.read() as work:
        return steps.get(work, step_id).state


def job_now(factory: Factory, job_id: str) -> Job:
    """A job as it is now."""
    with factory.read() as work:
        return jobs.get(work, job_id)


def event_types(factory: Factory, job_id: str) -> list[str]:
    """Types of a job's events in order."""
    with factory.read() as work:
        return [event.type for event in events.after(work, job_id, limit=10_000)]


def write_generator(directory: Path, **changes: Any) -> Path:
    """A generator's directory with made-up weights."""
    import json

    (directory / "unet").mkdir(parents=True)
    card = {"family": "unet_diffusion", "image_size": [3, 64, 64], **changes}
    (directory / "generator.json").write_text(json.dumps(card))
    (directory / "model_index.json").write_text("{}")
    (directory / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(WEIGHTS)
    return directory
