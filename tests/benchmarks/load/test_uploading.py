"""The load of uploads at a tiny size."""

from benchmarks.load import uploading


def test_uploads_leave_nothing() -> None:
    (row,) = uploading.figures(mib=2, times=2)
    assert row.value > 0
    assert row.detail.endswith("0 files left")
