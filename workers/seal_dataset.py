"""Step `seal_dataset`: which images stay, how often each is to be seen; reads scores, never images."""

from typing import Any

import numpy as np

from models.selection import keep_most_certain, sampling_weights
from service import datasets, sealing
from service.sealing import ImageScores, SealDecisions
from service.tables import DatasetShard
from service.unit_of_work import Work
from workers.context import Outcome, StepContext
from workers.lineage import lineage


def run(context: StepContext) -> Outcome:
    """Decide, and seal in the transaction that records the step."""
    dataset_id = context.step.job_result["dataset_id"]
    with context.read() as work:
        scores = sealing.image_scores(work, dataset_id)
        shards = datasets.shards(work, dataset_id)
    spec = context.label_spec
    decisions = decide(scores, shards, drop_share=spec.filter.drop_share)
    card: dict[str, Any] = lineage(context)
    kept = int(decisions.kept.sum())
    context.progress(len(scores.indexes), len(scores.indexes), {"kept": kept}, unit="images")

    def record(work: Work) -> None:
        sealing.seal(work, dataset_id, decisions, card)

    return Outcome({"dataset_id": dataset_id, "num_images": len(scores.indexes), "num_kept": kept}, record)


def decide(scores: ImageScores, shards: list[DatasetShard], *, drop_share: float) -> SealDecisions:
    """Drop the most uncertain share of each pool, then weigh what stays by the classes it shows.

    Pool by pool: real images are labelled from several views, so their scores are on another scale, and a dataset of
    both pools, restricted to one, is then the dataset of that pool.
    """
    kept = np.zeros(len(scores.indexes), dtype=bool)
    weights = np.zeros(len(kept), dtype=np.float64)
    for pool in sorted({shard.pool_kind for shard in shards}):
        its_shards = [shard.index for shard in shards if shard.pool_kind == pool]
        inside = np.flatnonzero(np.isin(scores.shard_indexes, its_shards))
        stays = keep_most_certain(scores.uncertainties[inside], drop_share=drop_share)
        kept[inside] = stays
        weights[inside[stays]] = sampling_weights(scores.class_pixels[inside[stays]])
    return SealDecisions(kept, weights)
