"""The benchmark of masks at a tiny size; it is also held against pycocotools there."""

import numpy as np
import pytest

from benchmarks import masks


def test_rates_and_memory() -> None:
    rate, records, memory = masks.figures(side=32, num_cells=5, num_annotations=20)
    assert rate.unit == "masks/s"
    assert "5 cells in 32x32" in rate.detail
    assert records.value > 1000
    assert records.detail == "20 annotations"
    assert memory.met


def test_a_mask_that_differs_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    map_HW = np.repeat([[0, 1, 2]], 3, axis=0).astype(np.int32)
    monkeypatch.setattr(masks, "cells", lambda *_: map_HW)
    monkeypatch.setattr(masks, "encode_regions", lambda *_, **__: masks.masks_by_pycocotools(map_HW)[:1])
    with pytest.raises(RuntimeError, match="pycocotools"):
        masks.mask_rate(3, 2)
