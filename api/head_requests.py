"""HEAD: what GET would answer, cut off after its headers (RFC 9110, section 9.3.2)."""

from anyio import CancelScope
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Marks the scope of a GET of which only the headers are wanted.
HEADERS_ONLY = "label_factory.headers_only"


def wants_headers_only(request: Request) -> bool:
    """Whether nobody will see the body: a route that would open a file for it need not."""
    return HEADERS_ONLY in request.scope


class HeadRequests:
    """Lets every GET route answer HEAD; the answer, be it an endless stream, is given up once its headers are sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but HEAD passes through."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                answer.cancel()

        # The server and the log keep their own scope, in which the method stays HEAD; the log learns the route from it.
        asked = {**scope, "method": "GET", HEADERS_ONLY: True}
        try:
            with CancelScope() as answer:
                await self.app(asked, receive, send_headers)
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]
