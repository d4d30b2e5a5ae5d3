"""The load of a job of many shards at a tiny size, with real worker processes."""

import pytest

from benchmarks.load import many_shards


@pytest.mark.slow
def test_workers_share_a_job_to_its_end() -> None:
    ratio, attempts = many_shards.figures(shards=12, alone=3, workers=2, shard_seconds=0.05)
    assert ratio.value > 0
    assert 1.0 <= attempts.value <= 1.1
