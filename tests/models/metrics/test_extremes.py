"""The worst and best images against sorting all of them."""

import numpy as np
import pytest
import torch

from models.contracts import IGNORE
from models.metrics.extremes import Extremes
from models.metrics.segmentation import ConfusionMatrix


def test_the_classes_of_the_image_count_alone() -> None:
    extremes = Extremes(3)
    extremes.update(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 1, 1, IGNORE]]]), first=7)
    (score,) = extremes.worst_first()
    assert (score.index, score.miou) == (7, 0.5)
    assert score.predicted_HW.tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("count", [3, 4, 5, 40])
def test_the_ends_of_all_scores_whatever_the_order_and_the_batches(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    label_BHW = torch.randint(0, 3, (count, 6, 6), generator=generator)
    wrong_BHW = torch.rand(count, 6, 6, generator=generator) < torch.rand(count, 1, 1, generator=generator)
    predicted_BHW = torch.where(wrong_BHW, (label_BHW + 1) % 3, label_BHW)
    scores = []
    for predicted_HW, label_HW in zip(predicted_BHW, label_BHW, strict=True):
        matrix = ConfusionMatrix(3)
        matrix.update(predicted_HW, label_HW)
        scores.append(matrix.miou())
    extremes = Extremes(3, each=2)
    for start in range(0, count, 3):
        part = slice(start, start + 3)
        extremes.update(predicted_BHW[part], label_BHW[part], first=start)
    order = sorted(range(count), key=lambda index: (scores[index], index))
    wanted = order if count <= 4 else [*order[:2], *order[-2:]]
    kept = extremes.worst_first()
    assert [score.index for score in kept] == wanted
    assert [score.miou for score in kept] == [scores[index] for index in wanted]
    assert all(np.array_equal(score.predicted_HW, predicted_BHW[score.index]) for score in kept)


def test_an_image_without_a_label_has_no_score() -> None:
    extremes = Extremes(2)
    extremes.update(torch.zeros(2, 1, 2, dtype=torch.long), torch.tensor([[[IGNORE, IGNORE]], [[0, 0]]]), first=0)
    assert [score.index for score in extremes.worst_first()] == [1]
