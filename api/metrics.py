"""Prometheus metrics: the requests of this API process, the process itself, and the factory."""

from fastapi import APIRouter, Response, Security
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from api.dependencies import API_KEY, ForOperators
from api.errors import problems
from api.factory_metrics import FactoryCollector
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


def make_router(registry: CollectorRegistry, factory: Factory) -> APIRouter:
    """`GET /metrics` over this registry, the process and the factory."""
    router = APIRouter(tags=["operations"])
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(FactoryCollector(factory))

    @router.get(
        "/metrics",
        operation_id="metrics",
        summary="Prometheus metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401, 403)},
        dependencies=[Security(API_KEY), ForOperators],
    )
    def metrics() -> Response:
        """Requests, process, queues, leases, workers, durations and failures of all workspaces: for the operator's own keys."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return router
