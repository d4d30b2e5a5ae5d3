"""What the database knows of the factory, as Prometheus metrics: workers need no port to be scraped.

Every API process tells the same numbers, so rules take `max by (...)` over instances, never `sum`.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, get_args

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service import monitoring, overview
from service.bootstrap import Factory
from service.doorbell import QUEUES
from service.monitoring import Readings
from service.plan import StepKind
from service.spec_parts import PoolKind
from service.tables import Worker
from service.tallies import SECONDS_BUCKETS, WORKER_LOST

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")

KINDS = get_args(StepKind)
STATES = ("succeeded", "failed", "cancelled")
REASONS = (WORKER_LOST, "out-of-memory", "disk-full", "storage-full", "internal")
"""Reasons that alarms watch."""

Samples = Mapping[Any, float]
"""Tuple of label values -> value."""


class FactoryCollector(Collector):
    """Read at each scrape; a database that does not answer leaves `label_factory_database_up` 0 and the rest out."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory

    def collect(self) -> Iterable[Metric]:
        """All metrics of the factory."""
        try:
            with self._factory.read() as work:
                readings = monitoring.read(work)
        except Exception:
            # Whatever the driver raises: a scrape without the database still tells that it is away.
            log.exception("the database cannot be read for metrics")
            yield _gauge("database_up", "Whether the database answered this scrape", [], {(): 0})
        else:
            yield _gauge("database_up", "Whether the database answered this scrape", [], {(): 1})
            yield from _queue_metrics(readings, self._factory.settings.lease_seconds)
            yield from _worker_metrics(readings.workers, readings.num_missing_workers)
            messages = _keyed(readings.webhook_messages)
            yield _gauge("webhook_messages", "Messages to webhooks of the last 30 days", ["state"], messages)
            yield from _counts(readings)
        if (disk := overview.disk(self._factory.settings)) is not None:
            yield _gauge("disk_free_bytes", "Free in the API's data folder", [], {(): disk.free})
            yield _gauge("disk_reserve_bytes", "Below this, uploads and steps are refused", [], {(): disk.reserve})

    def describe(self) -> Iterable[Metric]:
        """Nothing: registration must not ask the database."""
        return ()


def _queue_metrics(readings: Readings, lease_seconds: float) -> Iterable[Metric]:
    waiting, ages = readings.waiting_seconds, readings.lease_age_seconds
    yield _gauge("jobs", "Jobs", ["state"], _keyed(readings.jobs))
    yield _gauge("steps", "Steps that wait or run", ["queue", "state"], readings.steps)
    yield _gauge("waiting_seconds", "How long the longest waiting step has waited", ["queue"], _keyed(waiting))
    yield _gauge("lease_age_seconds", "Longest time since a running step's lease was renewed", ["queue"], _keyed(ages))
    yield _gauge("lease_seconds", "Age at which a step is taken from its worker", [], {(): lease_seconds})
    yield _gauge("progress_per_second", "Units per second of all running steps", ["kind", "unit"], readings.rates)
    for name, age in readings.duty_ages.items():
        yield _gauge(f"{name}_age_seconds", f"Since the last {name} was finished", [], {(): age})


def _worker_metrics(alive: Sequence[Worker], num_missing: int) -> Iterable[Metric]:
    by_queue = {(queue,): float(sum(queue in worker.queues for worker in alive)) for queue in QUEUES}
    yield _gauge("workers", "Workers seen within a lease; one of two queues counts in both", ["queue"], by_queue)
    yield _gauge("workers_missing", "Workers that fell silent within the last hour", [], {(): num_missing})
    # Workers that share a device see the same memory; a name per process would make a series per restart.
    devices: dict[tuple[str, ...], Worker] = {(worker.machine, worker.device): worker for worker in alive}
    for name, help_text in (
        ("memory_used_bytes", "Taken on the device, by whomever"),
        ("memory_total_bytes", "Memory of the device"),
    ):
        values = {key: float(getattr(worker, name)) for key, worker in devices.items()}
        yield _gauge(f"device_{name}", help_text, ["machine", "device"], values)
    scratch = {(worker.machine,): float(worker.scratch_free_bytes) for worker in alive}
    yield _gauge("scratch_free_bytes", "Free where a worker's files in flight lie", ["machine"], scratch)


def _counts(readings: Readings) -> Iterable[Metric]:
    # Zeros first: of a series that begins at one, Prometheus sees no increase.
    counts = readings.counts
    ended = {**dict.fromkeys(product(KINDS, STATES), 0.0), **counts.get("steps", {})}
    yield _counter("steps_ended", "Steps by how they ended", ["kind", "state"], ended)
    failures = {**dict.fromkeys(product(KINDS, REASONS), 0.0), **counts.get("failures", {})}
    yield _counter("failures", "Failed attempts", ["kind", "reason"], failures)
    images = {(pool,): counts.get("images", {}).get((pool, ""), 0.0) for pool in get_args(PoolKind)}
    yield _counter("images", "Labelled images in recorded shards", ["pool"], images)
    histogram = HistogramMetricFamily(
        "label_factory_step_seconds", "Seconds of succeeded steps, all attempts together", labels=["kind"]
    )
    by_kind: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
    for (kind, bound), number in counts.get("step_seconds", {}).items():
        by_kind.setdefault(kind, {})[bound] = number
    sums = counts.get("step_seconds_sum", {})
    for kind, found in by_kind.items():
        histogram.add_metric([kind], _cumulated(found), sums.get((kind, ""), 0.0))
    yield histogram


def _cumulated(found: Mapping[str, float]) -> list[tuple[str, float]]:
    total, buckets = 0.0, []
    for bound in (*map(str, SECONDS_BUCKETS), "+Inf"):
        total += found.get(bound, 0.0)
        buckets.append((bound, total))
    return buckets


def _keyed(values: Mapping[str, float]) -> Samples:
    return {(key,): value for key, value in values.items()}


def _gauge(name: str, help_text: str, labels: list[str], values: Samples) -> Metric:
    family = GaugeMetricFamily(f"label_factory_{name}", help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family


def _counter(name: str, help_text: str, labels: list[str], values: Samples) -> Metric:
    family = CounterMetricFamily(f"label_factory_{name}", help_text, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
