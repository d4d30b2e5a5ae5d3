"""A TCP proxy that is slow, cuts connections, or goes silent without closing them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHUNK = 16 * 1024


@dataclass
class Proxy:
    """Stands before a server on this machine; what it does to the bytes may be changed at any time."""

    target: str
    """URL of the real server."""
    delay_seconds: float = 0.0
    """Before every chunk, in both directions."""
    bytes_per_second: float | None = None
    """Of every connection and direction."""
    reset_after: int | None = None
    """Connections are reset after so many bytes of an answer."""
    silent: bool = False
    """Takes connections and bytes, and passes nothing on: half-open."""
    passed: int = 0
    """Bytes that went through."""
    resets: int = 0
    """Connections that were reset."""
    swallowed: int = 0
    """Chunks that were swallowed in silence."""
    _server: socket.socket = field(default_factory=socket.socket)

    def __enter__(self) -> Proxy:
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._server.bind(("127.0.0.1", 0))
        self._server.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        """Where clients go instead."""
        return f"http://127.0.0.1:{self._server.getsockname()[1]}"

    def _accept(self) -> None:
        address = urlsplit(self.target)
        while True:
            try:
                client, _ = self._server.accept()
                server = socket.create_connection((address.hostname, address.port))
            except OSError:
                return
            for source, target, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=(source, target, is_answer), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        count = 0
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                if self.silent:
                    self.swallowed += 1
                    continue
                time.sleep(self.delay_seconds + (len(chunk) / self.bytes_per_second if self.bytes_per_second else 0))
                target.sendall(chunk)
                count += len(chunk)
                self.passed += len(chunk)
                if is_answer and self.reset_after is not None and count >= self.reset_after:
                    self.resets += 1
                    break
        if self.silent:
            return
        for end in (source, target):
            with suppress(OSError):
                end.close()
