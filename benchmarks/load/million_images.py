"""What it takes to assemble a dataset of a million images: its manifest, and its COCO zip.

`python -m benchmarks.load.million_images` writes the rows of as many images as 1,000 shards of 1,000 hold, then seals the dataset as
the step `seal_dataset` does, and writes the COCO zip of images made up on the way (16x16, three classes) as the step
`export_dataset` does. Each runs in a process of its own, at a tenth of the size and at the whole: memory is what the process
grew by at its peak, and its slope is what an image costs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from sqlalchemy import insert

from benchmarks.paired import Figure, print_table
from service import datasets, sealing
from service.bootstrap import Factory, build_factory
from service.database import migrate
from service.datasets import NewImage, NewShard
from service.formats.annotated_images import LabelClass
from service.formats.coco_writer import write_coco_zip
from service.formats.png import encode_image_png
from service.formats.shard import ShardSample
from service.ids import new_id
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID, Dataset, DatasetImage, DatasetShard, Job
from workers.seal_dataset import decide

SIDE = 16
SHARD_IMAGES = 1_000
CLASSES = (
    LabelClass("background", False, "#000000", True),
    LabelClass("cell", False, "#ff0000", False),
    LabelClass("wall", False, "#00ff00", False),
)
#: A dataset of ten times the images may take this much more for each image that it has more.
SEAL_BYTES, COCO_BYTES = 400, 400


@dataclass(frozen=True)
class Cost:
    """What one size took."""

    images: int
    seconds: float
    grown_bytes: int
    """How much more memory than before the process had at its peak."""


def figures(*, images: int = 1_000_000, coco_images: int = 1_000_000) -> list[Figure]:
    """Two rows for the manifest, two for the COCO zip."""
    return [*_rows("manifest", _seal, images, SEAL_BYTES), *_rows("COCO zip", _export, coco_images, COCO_BYTES)]


def _rows(what: str, assemble: Callable[[int, Path], Cost], images: int, at_most: float) -> Iterator[Figure]:
    small, whole = (_alone(assemble, size) for size in (max(1, images // 10), images))
    slope = (whole.grown_bytes - small.grown_bytes) / (whole.images - small.images)
    detail = f"peak {small.grown_bytes / 2**20:.0f} MiB at {small.images:,}, {whole.grown_bytes / 2**20:.0f} MiB at {whole.images:,}"
    yield Figure(f"{what}: memory for each image more", slope, "bytes", at_most=at_most, detail=detail)
    yield Figure(f"{what}: images a second", whole.images / whole.seconds, "/s", detail=f"{whole.seconds:.0f} s")


def _alone(assemble: Callable[[int, Path], Cost], images: int) -> Cost:
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process,
    ):
        return process.submit(assemble, images, Path(folder)).result()


def _measured(images: int, run: Callable[[], object]) -> Cost:
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Cost(images, time.perf_counter() - started, max(0, peak - before))


def _seal(images: int, folder: Path) -> Cost:
    settings = Settings(data_dir=folder / "data")
    migrate(settings.resolved_database_url)
    factory = build_factory(settings)
    dataset_id = _store_rows(factory, images)

    def run() -> None:
        with factory.read() as work:
            scores, shards = sealing.image_scores(work, dataset_id), datasets.shards(work, dataset_id)
        decisions = decide(scores, shards, drop_share=0.1)
        del scores, shards  # as the step lets go of them before it is recorded
        with factory.work() as work:
            row = sealing.seal(work, dataset_id, decisions, {})
            assert row.num_images == images

    cost = _measured(images, run)
    factory.close()
    return cost


def _store_rows(factory: Factory, images: int) -> str:
    """A dataset whose shards are all there."""
    job_id, dataset_id = new_id("job"), new_id("ds")
    owned = {"workspace_id": DEFAULT_WORKSPACE_ID}
    classes = [one.to_json() for one in CLASSES]
    with factory.work() as work:
        work.session.add(Job(id=job_id, kind="label", name="million", spec={}, state="running", **owned))
        work.session.flush()
        work.session.add(
            Dataset(
                id=dataset_id,
                job_id=job_id,
                name="million",
                state="building",
                classes=classes,
                image_height=SIDE,
                image_width=SIDE,
                card={},
                statistics={},
                **owned,
            )
        )
    for index, first in enumerate(range(0, images, SHARD_IMAGES)):
        count = min(SHARD_IMAGES, images - first)
        shard = NewShard(index, f"datasets/{dataset_id}/shards/{index:05}-1.tar", "0" * 64, 1, count, "synthesized")
        rows = [
            {"dataset_id": dataset_id, "shard_index": index, **asdict(_image(first + place))} for place in range(count)
        ]
        with factory.work() as work:
            work.session.execute(insert(DatasetShard), [{"dataset_id": dataset_id, **asdict(shard)}])
            work.session.execute(insert(DatasetImage), rows)
    return dataset_id


def _image(index: int) -> NewImage:
    return NewImage(
        index=index,
        name=f"{index:07}",
        uncertainty=(index * 37 % 10_007) / 10_007,
        class_pixels=[SIDE * SIDE - 32, 24, 8],
        image_offset=512,
        image_bytes=100,
        label_offset=1536,
        label_bytes=100,
    )


def _export(images: int, folder: Path) -> Cost:
    def run() -> None:
        with (folder / "coco.zip").open("w+b") as file:
            info: dict[str, Any] = {"description": "million", "lineage": {}}
            report = write_coco_zip(file, classes=CLASSES, shards=_samples(images), info=info, scratch=folder)
            assert report["num_images"] == images

    return _measured(images, run)


def _samples(images: int) -> Iterator[ShardSample]:
    label_HW = np.zeros((SIDE, SIDE), np.uint8)
    label_HW[2:5, 2:10], label_HW[8:10, 4:8] = 1, 2
    image_HWC = np.repeat(label_HW[:, :, None] * 100, 3, axis=2)
    png = encode_image_png(image_HWC)
    for index in range(images):
        meta = {"name": f"{index:07}", "pool": "synthesized", "seed": index, "uncertainty": 0.01}
        yield ShardSample(f"{index:07}", image_HWC, label_HW, meta=meta, image_png=png)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000, help="of the manifest")
    parser.add_argument("--coco-images", type=int, default=1_000_000, help="of the COCO zip")
    args = parser.parse_args(arguments)
    print_table(figures(**vars(args)))


if __name__ == "__main__":
    main()
