"""A real server on a port of its own, and a way to see that nothing is left behind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import uvicorn
from sqlalchemy import text

from api.app import create_app
from api.http_protocol import ImpatientProtocol
from service.bootstrap import Factory
from service.tables import Base
from tests.api.archives import ZIP

#: Written beside what a request asks for: how often a caller came, that it came, and who is alive.
BESIDE = {"tallies", "duties", "workers", "audit_entries", "api_keys"}
PROBLEM = "application/problem+json"
MASKS = "/v1/annotation-sets?name=few&classes=background,cell"
COCO = "/v1/annotation-sets?name=few"

Json = dict[str, Any]


class Served:
    """The service behind a socket."""

    def __init__(self, factory: Factory, port: int, headers: dict[str, str]) -> None:
        self.factory = factory
        self.port = port
        self.headers = headers
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120, trust_env=False)

    def everything(self) -> tuple[dict[str, int], set[str], set[str]]:
        """Rows per table, objects, and files in scratch."""
        names = [table.name for table in Base.metadata.sorted_tables if table.name not in BESIDE]
        with self.factory.engine.connect() as connection:
            rows = {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names}
        settings = self.factory.settings
        folders = (settings.data_dir / "objects", settings.resolved_scratch_dir)
        objects, scratch = ({str(path) for path in folder.rglob("*") if path.is_file()} for folder in folders)
        return rows, objects, scratch

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Nothing that was not there before may be there afterwards."""
        before = self.everything()
        yield
        assert self.everything() == before

    def refused(self, *statuses: int, url: str, method: str = "POST", **request: Any) -> Json:
        """Send what must be refused; the problem document."""
        with self.unchanged():
            answer = self.http.request(method, url, **request)
            assert answer.status_code in statuses, (answer.status_code, answer.text[:1000])
            assert answer.headers["content-type"] == PROBLEM
        problem: Json = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["detail"]
        return problem

    def refused_zip(self, body: bytes, url: str = MASKS) -> list[Json]:
        """Send a zip that must be a 422; its faults, each with a place and a message."""
        errors: list[Json] = self.refused(422, url=url, content=body, headers=ZIP)["errors"]
        assert errors
        assert all(error["place"] and error["message"] for error in errors)
        return errors

    def taken_zip(self, body: bytes, url: str = MASKS) -> Json:
        """Send a zip that must be taken; the set."""
        answer = self.http.post(url, content=body, headers=ZIP)
        assert answer.status_code == 201, answer.text
        made: Json = answer.json()
        return made

    def talk(self, *parts: bytes, pause: float = 0.0, patience: float = 20.0) -> bytes:
        """Send raw bytes and read until the server closes; what it said, with ` [left open]` if it never does."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience) as connection:
            for part in parts:
                try:
                    connection.sendall(part)
                except OSError:
                    break
                time.sleep(pause)
            answer = b""
            try:
                while chunk := connection.recv(65_536):
                    answer += chunk
            except TimeoutError:
                return answer + b" [left open]"
            except OSError:
                pass
            return answer

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """The beginning of a request, without the empty line that ends it."""
        shown = [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *shown, *lines, ""]).encode()


def pixels_served(served: Served, set_id: str, index: int = 0) -> bytes:
    """The picture of an annotated image, as the service shows it."""
    answer = served.http.get(f"/v1/annotation-sets/{set_id}/images/{index}.png?overlay=0")
    assert answer.status_code == 200, answer.text
    return answer.content


@contextmanager
def serve(factory: Factory, headers: dict[str, str]) -> Iterator[Served]:
    """Serve until the end."""
    config = uvicorn.Config(
        create_app(factory), port=0, http=ImpatientProtocol, log_level="error", access_log=False, ws="none"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    served = Served(factory, server.servers[0].sockets[0].getsockname()[1], headers)
    yield served
    served.http.close()
    server.should_exit = True
    thread.join(20)
