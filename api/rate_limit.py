"""How often one client may ask: a budget per minute, all of which may be spent at once; then 429 with Retry-After.

Counted in this process: a cluster of N API processes grants up to N times as much. The limit keeps one client from
taking the service from all others; it is no bill.
"""

import math
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.authentication import visitor_of
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
        if wait := self.wait(client):
            return wait
        now = self._clock()
        if len(self._full_at) >= MAX_CLIENTS:
            self._full_at = {name: at for name, at in self._full_at.items() if at > now}
        self._full_at[client] = max(self._full_at.get(client, now), now) + self._interval
        return 0.0

    def wait(self, client: str) -> float:
        """Seconds until a request will be within the budget; 0 when one is."""
        now = self._clock()
        full_at = max(self._full_at.get(client, now), now) + self._interval
        return full_at - now - MINUTE if full_at - now > MINUTE + self._interval / 2 else 0.0


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
        if wait:
            await _refuse(wait, scope, receive, send)
        else:
            await self.app(scope, receive, send)


class RefusalLimit:
    """Stands before the gate: an address that keeps coming without a good key is not let near the database."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        self.refusals = Budget(settings.refusals_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but HTTP passes through."""
        if scope["type"] != "http" or scope["path"] in FREE_PATHS:
            await self.app(scope, receive, send)
            return
        address = address_of(scope)
        if wait := self.refusals.wait(address):
            await _refuse(wait, scope, receive, send)
            return

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self.refusals.spend(address)
            await send(message)

        await self.app(scope, receive, count)


async def _refuse(wait: float, scope: Scope, receive: Receive, send: Send) -> None:
    seconds = math.ceil(wait)
    detail = f"Too many requests from one client; ask again in {seconds} seconds."
    answer = problem_response(Request(scope), 429, detail, headers={"Retry-After": str(seconds)})
    await answer(scope, receive, send)


def client_of(scope: Scope) -> str:
    """Whose budget a request is taken from: the key's; without one the address's."""
    visitor = visitor_of(Request(scope))
    return address_of(scope) if visitor is None else visitor.caller.key_id


def address_of(scope: Scope) -> str:
    """The client's address, which a trusted proxy may have told."""
    return str(scope["client"][0]) if scope.get("client") else "unknown"
