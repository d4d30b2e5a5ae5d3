"""The REST API as the command line sees it: one client, one error, streamed both ways."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import httpx2

CHUNK_BYTES = 1 << 20
Json = dict[str, Any]


class CliError(Exception):
    """One clear line for the person at the terminal: what failed, where, what to do."""


class Client:
    """Speaks to one Label Factory service.

    Every method raises `CliError` when the service cannot be reached or answers with a problem document.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 60.0) -> None:
        self.url = url.rstrip("/")
        # Validation of a large upload happens inside its request, hence the long read timeout.
        timeout = httpx2.Timeout(timeout_seconds, read=600.0)
        self._http = httpx2.Client(base_url=self.url, timeout=timeout, trust_env=False)

    def get(self, path: str, **query: Any) -> Json:
        """GET a JSON document."""
        return self._json("GET", path, params=_present(query))

    def post(self, path: str, body: Json | None = None, *, headers: dict[str, str] | None = None, **query: Any) -> Json:
        """POST a JSON body and return the answer's document."""
        return self._json("POST", path, params=_present(query), json=body, headers=headers)

    def items(self, path: str, *, limit: int | None = None, **query: Any) -> list[Json]:
        """All items of a list, following its cursors until `limit` (all when None)."""
        items: list[Json] = []
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, limit=min(limit or 200, 200), **query)
            items += page["items"]
            cursor = page.get("next_cursor")
            if cursor is None or (limit is not None and len(items) >= limit):
                return items if limit is None else items[:limit]

    def upload(self, path: str, file: Path, **query: Any) -> Json:
        """Stream a zip file as the request's body."""
        if not file.is_file():
            raise CliError(f"{file}: no such file")
        headers = {"content-type": "application/zip", "content-length": str(file.stat().st_size)}
        with file.open("rb") as stream:
            body = iter(lambda: stream.read(CHUNK_BYTES), b"")
            return self._json("POST", path, params=_present(query), content=body, headers=headers)

    def download(self, path: str, target: Path) -> str:
        """Stream a file to `target` (written whole or not at all) and return its sha256 in hex."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".part")
        digest = hashlib.sha256()
        try:
            with self._http.stream("GET", path, follow_redirects=True) as answer:
                if answer.is_error:
                    answer.read()
                    _raise_problem(answer)
                with partial.open("wb") as out:
                    for chunk in answer.iter_bytes(CHUNK_BYTES):
                        digest.update(chunk)
                        out.write(chunk)
        except httpx2.HTTPError as error:
            partial.unlink(missing_ok=True)
            raise self._unreachable(error) from None
        partial.replace(target)
        return digest.hexdigest()

    def events(self, path: str, last_event_id: str | None = None) -> Iterator[tuple[str, str, Json]]:
        """Server-sent events as (id, type, data); ends when the service ends the stream."""
        headers = {"accept": "text/event-stream"} | ({"last-event-id": last_event_id} if last_event_id else {})
        with self._http.stream("GET", path, headers=headers, timeout=httpx2.Timeout(30.0, read=60.0)) as answer:
            if answer.is_error:
                answer.read()
                _raise_problem(answer)
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                if line and not line.startswith(":"):
                    name, _, value = line.partition(":")
                    fields[name] = fields.get(name, "") + value.removeprefix(" ")
                elif not line and "data" in fields:
                    yield fields.get("id", ""), fields.get("event", "message"), json.loads(fields["data"])
                    fields = {}

    def is_ready(self) -> bool:
        """Whether the service answers its readiness probe."""
        try:
            return self._http.get("/readyz", timeout=2.0).is_success
        except httpx2.HTTPError:
            return False

    def _json(self, method: str, path: str, **request: Any) -> Json:
        try:
            answer = self._http.request(method, path, **request)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.is_error:
            _raise_problem(answer)
        document: Json = answer.json() if answer.content else {}
        return document

    def _unreachable(self, error: httpx2.HTTPError) -> CliError:
        return CliError(
            f"{self.url} does not answer ({type(error).__name__}: {error}); start it with `label-factory up`"
        )


def _present(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _raise_problem(answer: httpx2.Response) -> NoReturn:
    """Turn an RFC 9457 problem into one line; the first problems' places follow it."""
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    title = problem.get("title") or answer.reason_phrase
    line = f"{answer.status_code} {title}: {problem.get('detail') or answer.request.url.path}"
    errors = problem.get("errors") or []
    places = [f"{error.get('place', '?')}: {error.get('message', '')}" for error in errors[:5]]
    more = [f"... and {len(errors) - 5} more"] if len(errors) > 5 else []
    raise CliError("; ".join([line, *places, *more]))
