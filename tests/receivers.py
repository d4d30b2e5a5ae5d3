"""A real HTTPS receiver of webhooks on this machine, with a certificate of its own authority."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import trustme

HOST = "hooks.example.test"


@dataclass(frozen=True)
class Message:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: bytes
    server_name: str | None
    """What the connection asked for by SNI."""


@dataclass
class Receiver:
    """What came, and how the next requests are answered."""

    port: int
    ca_file: Path
    messages: Queue[Message] = field(default_factory=Queue)
    answer: Callable[[BaseHTTPRequestHandler], None] = lambda handler: respond(handler, 204)

    def url(self, host: str = "localhost") -> str:
        """Where it listens."""
        return f"https://{host}:{self.port}/hook?to=me"

    def next(self) -> Message:
        """The next message; waits for it."""
        return self.messages.get(timeout=30)


def respond(
    handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str] | None = None, body: bytes = b""
) -> None:
    """Answer one request."""
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def https_receiver(folder: Path) -> Iterator[Receiver]:
    """A receiver on a free port of 127.0.0.1, known as localhost, hooks.example.test and by its address."""
    authority = trustme.CA()
    ca_file = folder / "receiver-ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", HOST, "127.0.0.1").configure_cert(context)
    names = threading.local()
    context.sni_callback = lambda _socket, name, _context: setattr(names, "asked", name)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.messages.put(Message(self.path, headers, body, getattr(names, "asked", None)))
            receiver.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def finish_request(self, request: object, client_address: object) -> None:
            # The handshake in the connection's own thread: one that stalls must not keep others out.
            with context.wrap_socket(request, server_side=True) as secured:  # type: ignore[arg-type]
                super().finish_request(secured, client_address)  # type: ignore[arg-type]

        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_address[1], ca_file)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield receiver
    server.shutdown()
    server.server_close()
    thread.join()
