"""A job's dataset as the student's training wants it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import get_args

from service import datasets
from service.formats.shard import ShardSample
from service.spec_parts import PoolKind
from service.tables import Dataset, DatasetShard
from workers.artifacts import stream_shard
from workers.context import StepContext
from workers.problems import StepError
from workers.soft_dataset import LocalSoftDataset

PAGE = 5_000
POOLS: tuple[PoolKind, ...] = get_args(PoolKind)


@dataclass(frozen=True)
class TrainingData:
    """What a student learns from."""

    row: Dataset
    dataset: LocalSoftDataset
    weights: list[float]
    """How often each image is drawn, in the dataset's order."""


def load_training_data(context: StepContext, pools: Collection[PoolKind] = POOLS) -> TrainingData:
    """Bring the kept images of the job's dataset into scratch, those of some pools only."""
    dataset_id = context.step.job_result["dataset_id"]
    with context.read() as work:
        row = datasets.get(work, dataset_id)
        shards = [shard for shard in datasets.shards(work, dataset_id) if shard.pool_kind in pools]
    weights = kept_weights(context, dataset_id, {shard.index for shard in shards})
    if not weights:
        raise StepError("empty-dataset", "The dataset kept no image.", "Lower filter.drop_share or make more images.")
    samples, size = _kept_samples(context, shards, weights), (row.image_height, row.image_width)
    dataset = LocalSoftDataset.filled(context.scratch / "dataset", samples, len(weights), size)
    return TrainingData(row, dataset, list(weights.values()))


def _kept_samples(context: StepContext, shards: list[DatasetShard], kept: dict[str, float]) -> Iterator[ShardSample]:
    done = 0
    for shard in shards:
        for sample in stream_shard(context, shard.key):
            context.check()
            if sample.key in kept:
                yield sample
                done += 1
                context.progress(done, len(kept), unit="images", message="reading the dataset")


def kept_weights(context: StepContext, dataset_id: str, shard_indexes: Collection[int]) -> dict[str, float]:
    """Name -> sampling weight of every kept image of these shards, in their order."""
    weights: dict[str, float] = {}
    after: str | None = None
    while True:
        with context.read() as work:
            page = datasets.list_images(work, dataset_id, kept=True, after=after, limit=PAGE)
        weights |= {image.name: image.weight or 0.0 for image in page.items if image.shard_index in shard_indexes}
        if page.next_after is None:
            return weights
        after = page.next_after
