"""The application: middlewares, error handlers and routers around one factory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from api import dashboard, errors, health, metrics
from api.authentication import Authentication
from api.head_requests import HeadRequests
from api.job_watch import JobWatch
from api.rate_limit import RateLimit, RefusalLimit
from api.request_log import RequestLog
from api.security_headers import SecurityHeaders
from api.shared_answers import SharedAnswers
from api.shared_reads import SharedReads
from api.uploads import UPLOAD_THREADS
from api.v1 import router as v1
from api.webhook_courier import WebhookCourier
from service.bootstrap import Factory

DESCRIPTION = """\
A few annotated images in; a large labelled dataset and a small deployable network out.

Every request but those of the probes shows an API key. Errors are RFC 9457 problems that list every place; lists answer `{items, next_cursor}`; uploads are raw zip bodies.
HEAD is answered wherever GET is, with the same headers.
"""
TAGS = [
    {"name": "generators", "description": "Image generators that jobs draw on"},
    {"name": "image pools", "description": "Unlabelled real images; open until sealed"},
    {"name": "annotation sets", "description": "A few images with labels; never changed"},
    {"name": "jobs", "description": "What was asked for, its steps and its events"},
    {"name": "datasets", "description": "Labelled images made by a job"},
    {"name": "students", "description": "Distilled networks"},
    {"name": "reports", "description": "Measurements against held-out truth"},
    {"name": "webhooks", "description": "Addresses that are told what happens, and every message to them"},
    {"name": "access", "description": "Workspaces, API keys, sign-in links and the audit log"},
    {"name": "objects", "description": "Files behind signed addresses"},
    {"name": "operations", "description": "Probes and metrics"},
]


def create_app(factory: Factory) -> FastAPI:
    """The REST API over `factory`; touches neither database nor store until asked."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        courier = WebhookCourier(factory) if factory.settings.webhooks else None
        if courier is not None:
            courier.start()
        yield
        if courier is not None:
            await to_thread.run_sync(courier.stop)
        factory.close()

    # The interactive pages of FastAPI load scripts from elsewhere, which neither offline use nor our policy allows.
    app = FastAPI(
        title="Label Factory",
        version=version("label-factory"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.factory = factory = factory.unbound()
    app.state.shared_reads = SharedReads()
    app.state.job_watch = JobWatch(factory)
    app.state.upload_threads = CapacityLimiter(UPLOAD_THREADS)
    registry = CollectorRegistry()
    errors.install(app)
    app.include_router(health.router)
    app.include_router(metrics.make_router(registry, factory))
    v1.include_in(app)
    dashboard.include_in(app)
    app.add_middleware(SharedAnswers, paths=v1.lists())
    app.add_middleware(RateLimit, settings=factory.settings)
    app.add_middleware(Authentication, factory=factory)
    app.add_middleware(RefusalLimit, settings=factory.settings)
    app.add_middleware(HeadRequests)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog, metrics=metrics.HttpMetrics(registry))
    return app
