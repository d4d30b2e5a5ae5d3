"""The benchmark of uploads at a tiny size."""

from benchmarks import uploads


def test_a_row_per_kind_of_upload() -> None:
    small, large = uploads.figures(png=3, jpeg=1, pairs=1)
    assert small.question == "3 PNG of 64x64 read in a child / in the service"
    assert "images/s" in large.detail
    assert large.value > 0
