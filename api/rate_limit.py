"""How often one client may ask: a budget per minute, all of which may be spent at once; then 429 with Retry-After.

Counted in this process: a cluster of N API processes grants up to N times as much. The limit keeps one client from
taking the service from all others; it is no bill.
"""

import math
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import problem_response
from service.settings import Settings

MINUTE = 60.0
#: Asked by machines that watch the service, not by its users.
FREE_PATHS = {"/healthz", "/readyz", "/metrics"}
FREE_FOLDERS = ("/static/",)
READING = {"GET", "HEAD", "OPTIONS"}
#: Clients that are remembered before those with a full budget are forgotten.
MAX_CLIENTS = 10_000


class Budget:
    """So many requests a minute per client, by the generic cell rate algorithm: one number per client."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = MINUTE / per_minute
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def spend(self, client: str) -> float:
        """0 when the request is within the budget, which it then costs; otherwise the seconds until one will be."""
        now = self._clock()
        full_at = max(self._full_at.get(client, now), now) + self._interval
        if full_at - now > MINUTE + self._interval / 2:
            return full_at - now - MINUTE
        if len(self._full_at) >= MAX_CLIENTS:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        self._full_at[client] = full_at
        return 0.0


class RateLimit:
    """Refuses requests beyond the budgets: one for all requests, a smaller one for those that change something."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.requests = Budget(settings.requests_per_minute)
        self.changes = Budget(settings.changes_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but HTTP passes through."""
        if scope["type"] != "http" or scope["path"] in FREE_PATHS or scope["path"].startswith(FREE_FOLDERS):
            await self.app(scope, receive, send)
            return
        client = client_of(scope)
        wait = self.requests.spend(client)
        if not wait and scope["method"] not in READING:
            wait = self.changes.spend(client)
        if not wait:
            await self.app(scope, receive, send)
            return
        seconds = math.ceil(wait)
        detail = f"Too many requests from one client; ask again in {seconds} seconds."
        answer = problem_response(Request(scope), 429, detail, headers={"Retry-After": str(seconds)})
        await answer(scope, receive, send)


def client_of(scope: Scope) -> str:
    """Whose budget a request is taken from: the client's address, which a trusted proxy may have told."""
    return str(scope["client"][0]) if scope.get("client") else "unknown"
