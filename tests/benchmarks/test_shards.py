"""The benchmark of shards at a tiny size: real steps of a real job."""

from benchmarks import shards


def test_a_row_per_pool() -> None:
    synthesized, encoded = shards.figures(synthesized=2, encoded=2, pairs=(1, 1), num_steps=1)
    assert "synthesized shard of 2" in synthesized.question
    assert "encoded shard of 2" in encoded.question
    assert min(synthesized.value, encoded.value) > 0.5
