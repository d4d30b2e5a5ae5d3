"""Assembling a large dataset, at a tiny size."""

import pytest

from benchmarks.load import million_images


@pytest.mark.slow
def test_rows_for_manifest_and_coco_zip() -> None:
    rows = million_images.figures(images=2_000, coco_images=20)
    assert [row.question.split(":")[0] for row in rows] == ["manifest", "manifest", "COCO zip", "COCO zip"]
    assert rows[0].detail.endswith("at 2,000")
    assert all(row.value > 0 for row in rows[1::2])
