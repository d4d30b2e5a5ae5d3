"""Which images stay and how often each is drawn."""

from __future__ import annotations

import numpy as np

from service.sealing import ImageScores
from service.tables import DatasetShard
from workers.seal_dataset import decide


def scores_of(uncertainties: list[float], shards: list[int], rare: set[int] = frozenset()) -> ImageScores:  # type: ignore[assignment]
    count = len(uncertainties)
    pixels = np.array([[60, 40] if index in rare else [100, 0] for index in range(count)])
    return ImageScores(np.arange(count), np.array(uncertainties), pixels, np.array(shards))


def shard(index: int, pool: str) -> DatasetShard:
    return DatasetShard(index=index, pool_kind=pool)


def test_the_most_uncertain_share_goes_and_nothing_else() -> None:
    scores = scores_of([0.1, 0.9, 0.2, 0.8, 0.3, 0.4, 0.5, 0.6, 0.7, 0.0], [0] * 10)
    decisions = decide(scores, [shard(0, "synthesized")], drop_share=0.2)
    assert np.flatnonzero(~decisions.kept).tolist() == [1, 3]
    assert (decisions.weights[~decisions.kept] == 0).all()


def test_each_pool_is_judged_on_its_own_scale() -> None:
    scores = scores_of([0.1, 0.2, 0.3, 0.4, 5.0, 6.0, 7.0, 8.0], [0] * 4 + [1] * 4)
    decisions = decide(scores, [shard(0, "synthesized"), shard(1, "encoded")], drop_share=0.25)
    assert np.flatnonzero(~decisions.kept).tolist() == [3, 7]


def test_images_with_a_rare_class_are_drawn_more_often() -> None:
    scores = scores_of([0.1] * 20, [0] * 20, rare={4})
    decisions = decide(scores, [shard(0, "synthesized")], drop_share=0.0)
    assert decisions.weights[4] == decisions.weights.max()
    assert decisions.weights[4] > 1.2 * decisions.weights[0]
    assert abs(decisions.weights[decisions.kept].mean() - 1) < 1e-9


def test_a_dataset_of_both_pools_restricted_to_one_is_the_dataset_of_that_pool() -> None:
    uncertainties = [0.1, 0.4, 0.2, 0.3, 8.0, 7.0, 6.0, 5.0]
    both = decide(
        scores_of(uncertainties, [0] * 4 + [1] * 4, rare={0, 6, 7}),
        [shard(0, "synthesized"), shard(1, "encoded")],
        drop_share=0.25,
    )
    for part, first, pool in ((slice(0, 4), 0, "synthesized"), (slice(4, 8), 4, "encoded")):
        rare = {index - first for index in (0, 6, 7)}
        alone = decide(scores_of(uncertainties[part], [0] * 4, rare=rare), [shard(0, pool)], drop_share=0.25)
        assert both.kept[part].tolist() == alone.kept.tolist()
        assert both.weights[part].tolist() == alone.weights.tolist()
