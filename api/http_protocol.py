"""The HTTP parser of the server with what it lacks: a deadline and a size for request heads, problems for answers.

uvicorn waits for ever for the rest of a head and keeps all of it; a few hundred slow clients would hold every
connection. Bodies have their own limits, see `strict_json` and `uploads`.
"""

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.errors import MEDIA_TYPE

HEAD_SECONDS = 20.0
MAX_HEAD_BYTES = 64 * 1024


class ImpatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request head does not come whole in time or grows too long."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """A client that connects must speak."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._head_arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins, perhaps after others on the same connection."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_arrived()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse, then see whether the head still is not whole after too many bytes."""
        super().data_received(data)
        if self._deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self._head_arrived()
                self.send_400_response(f"The request's head is longer than {MAX_HEAD_BYTES} bytes.")

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP request gets a problem document, too, and the connection is closed."""
        problem = {
            "type": "urn:label-factory:problem:bad-request",
            "title": "The request cannot be read",
            "status": 400,
            "detail": msg,
            "errors": [],
        }
        content = json.dumps(problem).encode()
        head = [
            "HTTP/1.1 400 Bad Request",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(content)}",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + content)
        self.transport.close()

    def _await_head(self) -> None:
        if self._deadline is None:
            self._head_bytes = 0
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _head_arrived(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
