"""The load on event streams at a tiny size."""

from benchmarks.load import event_streams


def test_every_event_comes_once_to_every_stream() -> None:
    # More than the process has threads and connections: they must not wait for each other.
    delay, came = event_streams.figures(streams=80, jobs=2, events_per_second=20, seconds=1.0)
    assert delay.value > 0
    assert came.value == 1.0
