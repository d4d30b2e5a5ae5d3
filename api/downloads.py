"""Stored objects as answers: streamed, with ranges, entity tags and digests; never a whole file in memory."""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from api.errors import problem_response, problems
from api.head_requests import wants_headers_only
from service.storage import ObjectStorage

#: Objects never change under their key, so whoever has one may keep it.
IMMUTABLE = "private, max-age=31536000, immutable"
#: For what may be replaced under the same address: keep it, but ask each time.
REVALIDATE = "private, no-cache"

RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
PLAIN_NAME = re.compile(r"[^A-Za-z0-9._ -]+")


@dataclass(frozen=True)
class Download:
    """An object and how it is called outside."""

    key: str
    filename: str
    """Offered to the browser; any text."""
    media_type: str
    sha256: str | None = None
    """Hex digest of the bytes, where the row knows it."""


def download(request: Request, storage: ObjectStorage, item: Download) -> Response:
    """The object, a range of it (206), 304 when the client has it, 416 when the range lies outside.

    Raises `NotFound` when the object is gone.
    """
    num_bytes = storage.size(item.key)
    # A key carries its writer's token and its object never changes: its hash is as good a tag as the content's.
    etag = quoted_etag(item.sha256 or hashlib.sha256(item.key.encode()).hexdigest())
    headers = _headers(item, etag) | {"Content-Length": str(num_bytes)}
    if matches(request, etag):
        return not_modified(headers)
    if wants_headers_only(request):  # of the whole file: ranges are GET's alone (RFC 9110, section 14.2)
        return Response(None, 200, headers, item.media_type)
    span = _requested_span(request, etag, num_bytes)
    if span is None:
        return StreamingResponse(storage.get_stream(item.key), 200, headers, item.media_type)
    start, end = span
    if start >= num_bytes:
        detail = f"The file has {num_bytes} bytes; the range lies outside."
        return problem_response(request, 416, detail, headers={"Content-Range": f"bytes */{num_bytes}"})
    length = end - start + 1
    headers |= {"Content-Length": str(length), "Content-Range": f"bytes {start}-{end}/{num_bytes}"}
    return StreamingResponse(storage.get_stream(item.key, start=start, length=length), 206, headers, item.media_type)


def quoted_etag(tag: str) -> str:
    """A strong entity tag."""
    return f'"{tag}"'


def matches(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names what the client would get."""
    offered = request.headers.get("if-none-match", "")
    return offered.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in offered.split(","))


def not_modified(headers: Mapping[str, str]) -> Response:
    """304 with the headers that a cache keeps."""
    kept = {name: value for name, value in headers.items() if name in {"ETag", "Cache-Control", "Accept-Ranges"}}
    return Response(status_code=304, headers=kept)


def _headers(item: Download, etag: str) -> dict[str, str]:
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": REVALIDATE,
        "Content-Disposition": disposition(item.filename),
    }
    if item.sha256:
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(item.sha256)).decode()}:"
    return headers


def disposition(filename: str) -> str:
    """`Content-Disposition: attachment` that neither quotes nor line breaks in a name can leave."""
    plain = PLAIN_NAME.sub("_", filename) or "download"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _requested_span(request: Request, etag: str, num_bytes: int) -> tuple[int, int] | None:
    """First and last byte of a single range; None for the whole file (no, several or malformed ranges)."""
    condition = request.headers.get("if-range")
    match = RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if match is None or (condition is not None and condition != etag) or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first == "":
        return max(num_bytes - int(last), 0) if int(last) else num_bytes, num_bytes - 1
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last), num_bytes - 1) if last else num_bytes - 1


def file_responses(media_type: str, description: str, *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a download; `statuses` are problems beyond those that every download may answer."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {
        200: {"description": description, "content": content},
        206: {"description": "The range that was asked for", "content": content},
        304: {"description": "The client has it already"},
        **problems(404, 416, 422, *statuses),
    }
