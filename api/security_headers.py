"""Headers every answer carries; a page may set its own policy, the strict default stands otherwise."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DEFAULTS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

# As ASGI has them.
RAW_DEFAULTS = [(name.lower().encode(), value.encode()) for name, value in DEFAULTS.items()]


class SecurityHeaders:
    """Adds the defaults to every answer that did not choose for itself."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection; anything but HTTP passes through."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                chosen = {name for name, _ in headers}
                headers.extend(header for header in RAW_DEFAULTS if header[0] not in chosen)
            await send(message)

        await self.app(scope, receive, send_with_headers if scope["type"] == "http" else send)
