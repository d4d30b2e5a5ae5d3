"""The same list, asked for by many at once, is made once.

Scripts and command lines poll lists with requests that are the same to the byte, key included. Those who wait at the same
time get one answer, under the rule of `shared_reads`: nobody's is older than its question. The key was checked and its
budget spent before, each request by itself.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.shared_reads import SharedReads

#: Long enough for the answers of one list to go out and for the same clients to be back at the gate.
PAUSE_SECONDS = 0.004


@dataclass(frozen=True)
class Answered:
    """A whole answer, and the route that gave it."""

    messages: list[Message]
    route: Any

    @property
    def status(self) -> int:
        """HTTP status."""
        return int(self.messages[0]["status"])


class SharedAnswers:
    """Lets requests for one of `paths`, whose answers never stream, share one; errors name their request and are not shared."""

    def __init__(self, app: ASGIApp, paths: frozenset[str]) -> None:
        self.app = app
        self.paths = paths
        self._reads = SharedReads(PAUSE_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but a GET of these paths passes through."""
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] not in self.paths:
            await self.app(scope, receive, send)
            return
        made_here = False

        async def make() -> Answered:
            nonlocal made_here
            made_here = True
            messages: list[Message] = []

            async def keep(message: Message) -> None:
                messages.append(message)

            await self.app(scope, receive, keep)
            return Answered(messages, scope.get("route"))

        answered = await self._reads.get(_asked(scope), make)
        if answered.status != 200 and not made_here:
            await self.app(scope, receive, send)
            return
        scope["route"] = answered.route
        for message in answered.messages:
            # Those around us add headers of this request.
            await send({**message, "headers": [*message["headers"]]} if "headers" in message else message)


def _asked(scope: Scope) -> Hashable:
    return scope["path"], scope["query_string"], tuple(scope["headers"])
