"""Prometheus counters of the API process and gauges of what waits in the database."""

from collections.abc import Iterable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from api.errors import problems
from service import jobs, steps
from service.bootstrap import Factory

BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class HttpMetrics:
    """Requests by route template (never by raw path: ids would make a series each)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route", "status")
        self._requests = Counter("http_requests", "Answered requests", labels, registry=registry)
        self._seconds = Histogram(
            "http_request_seconds",
            "Seconds until the answer was sent whole",
            ("method", "route"),
            buckets=BUCKETS,
            registry=registry,
        )

    def record(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class FactoryGauges(Collector):
    """What waits and runs, read from the database at each scrape."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory

    def collect(self) -> Iterable[Metric]:
        """Jobs by state, steps by queue and state."""
        with self._factory.read() as work:
            job_counts, step_counts = jobs.counts(work), steps.counts(work)
        by_state = GaugeMetricFamily("label_factory_jobs", "Jobs", labels=["state"])
        for state, number in job_counts.items():
            by_state.add_metric([state], number)
        by_queue = GaugeMetricFamily("label_factory_steps", "Steps", labels=["queue", "state"])
        for (queue, state), number in step_counts.items():
            by_queue.add_metric([queue, state], number)
        yield by_state
        yield by_queue

    def describe(self) -> Iterable[Metric]:
        """Nothing: registration must not ask the database."""
        return ()


def make_router(registry: CollectorRegistry, factory: Factory) -> APIRouter:
    """`GET /metrics` over this registry, the process and the factory."""
    router = APIRouter(tags=["operations"])
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(FactoryGauges(factory))

    @router.get(
        "/metrics",
        operation_id="metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems()},
    )
    def metrics() -> Response:
        """Requests, process, jobs by state and steps by queue."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
