"""A dataset on disk, drawn image by image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.formats import soft_labels
from service.formats.shard import ShardSample
from tests.tiny import SIZE, disc
from workers.soft_dataset import LocalSoftDataset


def sample(index: int, *, ignored: int = 0) -> ShardSample:
    image_HWC, label_HW = disc(index)
    soft = np.stack([1.0 - label_HW * 0.8, label_HW * 0.8]).astype(np.float32)
    label_HW = label_HW.copy()
    label_HW[:ignored] = 255
    return ShardSample(f"{index}", image_HWC, label_HW, None, soft_labels.encode(soft))


def test_images_and_soft_labels_come_back(tmp_path: Path) -> None:
    dataset = LocalSoftDataset.filled(tmp_path, (sample(index) for index in range(3)), 3, (SIZE, SIZE))
    image_HWC, probabilities_CHW = dataset[2]
    assert np.array_equal(image_HWC, disc(2)[0])
    assert probabilities_CHW.dtype == np.float32
    assert np.allclose(probabilities_CHW[1], disc(2)[1] * 0.8, atol=0.02)
    assert len(dataset) == 3


def test_ignored_pixels_teach_nothing(tmp_path: Path) -> None:
    dataset = LocalSoftDataset.filled(tmp_path, [sample(0, ignored=4)], 1, (SIZE, SIZE))
    _, probabilities_CHW = dataset[0]
    assert (probabilities_CHW[:, :4] == 0).all()
    assert np.allclose(probabilities_CHW[:, 4:].sum(axis=0), 1)


def test_a_missing_image_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 samples where 2"):
        LocalSoftDataset.filled(tmp_path, [sample(0)], 2, (SIZE, SIZE))
