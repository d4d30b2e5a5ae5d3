"""The outermost middleware: a request id, one log line per request, its metrics, and the last answer to a crash."""

import re
import secrets
import time

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import internal_error
from api.metrics import HttpMetrics

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Probes and scrapes come every few seconds; their success is no news.
QUIET_PATHS = {"/healthz", "/readyz", "/metrics"}


class RequestLog:
    """Gives every request an id (a well-formed `X-Request-ID` is kept), logs it and counts it."""

    def __init__(self, app: ASGIApp, metrics: HttpMetrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status, sent_after = 0, None

        async def send_with_id(message: Message) -> None:
            nonlocal status, sent_after
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                # What is written down afterwards nobody waits for.
                sent_after = time.perf_counter() - started

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            except Exception as error:
                log.exception("request crashed", path=scope["path"])
                if status:
                    raise  # the answer had begun: only a cut connection tells the client
                await internal_error(Request(scope), error)(scope, receive, send_with_id)
            finally:
                self._record(scope, status or 499, sent_after or time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = str(getattr(scope.get("route"), "path", "unmatched"))
        self.metrics.record(scope["method"], route, status, seconds)
        if scope["path"] not in QUIET_PATHS or status >= 400:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                route=route,
                status=status,
                milliseconds=round(seconds * 1000, 1),
                **_named_ids(scope),
            )


def _named_ids(scope: Scope) -> dict[str, str]:
    """Ids that the path names: `job_id`, `step_id`, ..."""
    return {name: str(value) for name, value in scope.get("path_params", {}).items() if name.endswith("_id")}


def _request_id(scope: Scope) -> str:
    offered = Headers(scope=scope).get("x-request-id", "")
    return offered if REQUEST_ID.fullmatch(offered) else secrets.token_hex(16)
