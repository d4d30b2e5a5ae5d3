"""The REST API as the command line sees it: one client, one error, streamed both ways."""

import base64
import hashlib
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urljoin

import httpx2

from cli.credentials import FILE_VARIABLE, KEY_VARIABLE, find_key

CHUNK_BYTES = 1 << 20
Json = dict[str, Any]


class CliError(Exception):
    """One clear line for the person at the terminal: what failed, where, what to do."""


class Client:
    """Speaks to one Label Factory service.

    Every method raises `CliError` when the service cannot be reached or answers with a problem document.
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_seconds: float = 60.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise CliError(f"{url}: not an address of a service; it begins with http:// or https://")
        self.url = url.rstrip("/")
        try:
            key = key or find_key(self.url)
        except OSError as error:
            raise CliError(f"{error.filename}: {error.strerror}; it should hold an API key") from None
        headers = {"authorization": f"Bearer {key}"} if key else {}
        # Validation of a large upload happens inside its request, hence the long read timeout.
        timeout = httpx2.Timeout(timeout_seconds, read=600.0)
        self._http = httpx2.Client(base_url=self.url, timeout=timeout, headers=headers, trust_env=False)

    def get(self, path: str, **query: Any) -> Json:
        """GET a JSON document."""
        return self._json("GET", path, params=_present(query))

    def post(self, path: str, body: Json | None = None, *, headers: dict[str, str] | None = None, **query: Any) -> Json:
        """POST a JSON body and return the answer's document."""
        return self._json("POST", path, params=_present(query), json=body, headers=headers)

    def patch(self, path: str, body: Json) -> Json:
        """PATCH with a JSON body and return the answer's document."""
        return self._json("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """DELETE what is at `path`."""
        self._json("DELETE", path)

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
        """Stream a file to `target` (whole and as it was stored, or not at all) and return its sha256 in hex."""
        partial = target.with_name(target.name + ".part")
        try:
            with _writing(target), self._http.stream("GET", path, follow_redirects=True) as answer:
                if answer.is_error:
                    answer.read()
                    _raise_problem(answer)
                target.parent.mkdir(parents=True, exist_ok=True)
                digest = _write(answer, partial)
                partial.replace(target)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        finally:
            with suppress(OSError):
                partial.unlink()
        return digest.hex()

    def download_folder(self, path: str, folder: Path) -> Path:
        """Download a zip and unpack it into `folder`, which is made where it is missing."""
        packed = folder / ".download.zip"
        self.download(path, packed)
        with _writing(folder), zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)
        packed.unlink()
        return folder

    def link(self, path: str, *, minutes: float) -> str:
        """An address of the download at `path` that needs no key, for at most a quarter of an hour."""
        answer = self.get(f"{path}/signed-url", expires_in=round(minutes * 60))
        return urljoin(f"{self.url}/", str(answer["url"]))

    def is_ready(self) -> bool:
        """Whether the service answers its readiness probe."""
        try:
            return self._http.get("/readyz", timeout=2.0).is_success
        except httpx2.HTTPError:
            return False

    def _json(self, method: str, path: str, **request: Any) -> Json:
        try:
            answer = self._http.request(method, path, **request)
            # Too fast is told with the time to wait; a quota is not, and may stay used up for hours. A streamed body
            # cannot be sent twice.
            while answer.status_code == 429 and "retry-after" in answer.headers and "content" not in request:
                time.sleep(float(answer.headers["retry-after"]))
                answer = self._http.request(method, path, **request)
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        if answer.is_error:
            _raise_problem(answer)
        try:
            document: Json = answer.json() if answer.content else {}
        except ValueError:
            raise CliError(f"{self.url}: something answers there that is no Label Factory; check --url") from None
        return document

    def _unreachable(self, error: httpx2.HTTPError) -> CliError:
        return CliError(
            f"{self.url} does not answer ({type(error).__name__}: {error}); start it with `label-factory up`"
        )


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Turn what the file system refuses into one clear line."""
    try:
        yield
    except OSError as error:
        raise CliError(
            f"{error.filename or place}: {error.strerror or error}; make room or choose another --out"
        ) from None


def _write(answer: httpx2.Response, target: Path) -> bytes:
    """Write the body and return its sha256; raises `CliError` when the service names another in `Repr-Digest`."""
    digest = hashlib.sha256()
    with target.open("wb") as out:
        for chunk in answer.iter_bytes(CHUNK_BYTES):
            digest.update(chunk)
            out.write(chunk)
    found = base64.b64encode(digest.digest()).decode()
    if answer.headers.get("repr-digest", f"sha-256=:{found}:") != f"sha-256=:{found}:":
        raise CliError(f"{target.stem}: what came has not the sha256 that the service names; download it again")
    return digest.digest()


def _present(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _raise_problem(answer: httpx2.Response) -> NoReturn:
    """Turn an RFC 9457 problem into one line; the first problems' places follow it."""
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    title = problem.get("title") or answer.reason_phrase
    detail = problem.get("detail") or answer.request.url.path
    errors = problem.get("errors") or []
    places = [f"{error.get('place', '?')}: {error.get('message', '')}" for error in errors[:5]]
    more = [f"... and {len(errors) - 5} more"] if len(errors) > 5 else []
    if places:
        detail = f"{detail.removesuffix('.')}: {'; '.join([*places, *more])}"
    if answer.status_code == 401:
        detail = f"{detail.removesuffix('.')}; name one with --api-key-file, {FILE_VARIABLE} or {KEY_VARIABLE}"
    raise CliError(f"{answer.status_code} {title}: {detail}")
