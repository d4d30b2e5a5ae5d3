"""Uploads are raw streamed bodies: hashed while they go to scratch, capped on the way, gone when the request ends."""

import hashlib
import tempfile
import time
from asyncio import timeout
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from service.errors import BadRequest, TooLarge, Unsupported
from service.settings import Settings
from service.uploads import require_space

Answer = TypeVar("Answer")

ZIP_TYPES = {"application/zip", "application/x-zip-compressed"}
WRITE_BYTES = 1 << 20
#: Silence between two chunks after which the sender is taken for gone.
SILENCE_SECONDS = 30.0
#: After this a sender must have reached a mean rate, or a byte now and then would hold its connection for ever.
GRACE_SECONDS = 30.0
LEAST_BYTES_PER_SECOND = 4096

#: Uploads that are read and checked at the same time.
UPLOAD_THREADS = 4

#: What OpenAPI says about a raw zip body, which no parameter of the route shows.
ZIP_BODY = {
    "requestBody": {
        "required": True,
        "description": "The zip file itself, not a multipart form",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@dataclass(frozen=True)
class Upload:
    """A body that arrived whole."""

    path: Path
    """In a scratch folder of its own, removed when the request ends whatever became of it."""
    num_bytes: int
    sha256: str


@asynccontextmanager
async def received_zip(request: Request, settings: Settings) -> AsyncIterator[Upload]:
    """Stream the body of `request` to a folder of its own in scratch.

    Raises `Unsupported` for another media type, `TooLarge` as soon as more bytes are announced or come than are
    taken, `BadRequest` when the body is empty, stalls or breaks off, `StorageFull` when there is no room.
    """
    _require_zip(request, settings.max_upload_bytes)
    require_space(settings)
    with tempfile.TemporaryDirectory(prefix="upload-", dir=settings.resolved_scratch_dir) as folder:
        yield await _receive(request, Path(folder) / "body.zip", settings.max_upload_bytes)


def _require_zip(request: Request, limit: int) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ZIP_TYPES:
        raise Unsupported(f"Send the zip file itself as application/zip, not {kind or 'without a content type'}.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise TooLarge(f"The upload has {declared} bytes; at most {limit} are taken.")


async def off_loop(request: Request, take_in: Callable[[Upload], Answer], upload: Upload) -> Answer:
    """Read, check and store an upload in a thread; only so many at once that other requests keep theirs."""
    return await anyio.to_thread.run_sync(take_in, upload, limiter=request.app.state.upload_threads)


async def _receive(request: Request, path: Path, limit: int) -> Upload:
    digest = hashlib.sha256()
    num_bytes = 0
    pending = bytearray()

    with path.open("wb") as out:

        def write(chunk: bytes) -> None:
            digest.update(chunk)
            out.write(chunk)

        async for chunk in _chunks(request):
            num_bytes += len(chunk)
            if num_bytes > limit:
                raise TooLarge(f"The upload is longer than {limit} bytes.")
            pending += chunk
            if len(pending) >= WRITE_BYTES:
                await anyio.to_thread.run_sync(write, bytes(pending))
                pending.clear()
        await anyio.to_thread.run_sync(write, bytes(pending))
    if num_bytes == 0:
        raise BadRequest("The body is empty; send the zip file itself.")
    return Upload(path, num_bytes, digest.hexdigest())


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    stream = aiter(request.stream())
    started, num_bytes = time.monotonic(), 0
    while True:
        try:
            async with timeout(SILENCE_SECONDS):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise BadRequest(f"The upload paused for more than {SILENCE_SECONDS:.0f} seconds.") from None
        except ClientDisconnect:
            raise BadRequest("The upload broke off.") from None
        num_bytes += len(chunk)
        seconds = time.monotonic() - started
        if seconds > GRACE_SECONDS and num_bytes < seconds * LEAST_BYTES_PER_SECOND:
            raise BadRequest(f"The upload came slower than {LEAST_BYTES_PER_SECOND} bytes a second.")
        yield chunk
