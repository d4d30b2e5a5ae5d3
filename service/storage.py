"""Object storage: a flat space of keys and bytes, in a folder or in an S3-compatible store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import unquote, urlparse

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from service import object_keys
from service.errors import NotFound, ServiceError, StorageFull
from service.settings import Settings

if TYPE_CHECKING:
    from obstore import Attributes
    from obstore.store import S3Config

CHUNK_BYTES = 1 << 20
# Parts in flight of one upload: bounds its memory to a few dozen MiB.
PART_BYTES = 8 << 20
PARTS_IN_FLIGHT = 3
# Objects of one batch of a scan: what a listing of any length holds in memory.
SCAN_BATCH = 500
# A folder's objects are written beside their place under such names.
UNFINISHED = re.compile(r"#\d+$")
FULL_SIGNS = ("No space left on device", "os error 28", "StorageFull", "InsufficientStorage", "507 ")

Source = BinaryIO | Iterable[bytes]


@dataclass(frozen=True)
class StoredObject:
    """What was written."""

    num_bytes: int
    """Length of the object."""
    sha256: str
    """Hex digest of its bytes."""


@dataclass(frozen=True)
class ListedObject:
    """What the store says of an object without its bytes."""

    key: str
    """Its key."""
    num_bytes: int
    """Its length."""
    modified_at: datetime
    """When it was last written, on the store's clock (S3 counts whole seconds)."""


class StorageError(ServiceError):
    """The object store did not do what was asked; its own words are in the detail."""

    type, title = "storage", "The object store failed"


class ObjectStorage(Protocol):
    """Bytes under keys. Writes are atomic: a key has all of an object's bytes or does not exist."""

    def put_stream(self, key: str, source: Source) -> StoredObject:
        """Write a file or chunks under a key, replacing what was there. Raises StorageFull, StorageError."""
        ...

    def get_stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Read an object, or a range of it, chunk by chunk. Raises NotFound before the first chunk."""
        ...

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """Read a few bytes of an object at once. Raises NotFound."""
        ...

    def size(self, key: str) -> int:
        """Length of an object in bytes. Raises NotFound."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is an object under this key."""
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...

    def sign(self, key: str, *, seconds: int) -> str | None:
        """An address from which anyone may GET the object for so long; None where the store cannot sign."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys of all objects in a folder; the prefix ends with a slash."""
        ...

    def scan(self) -> Iterator[Sequence[ListedObject]]:
        """All objects in batches, in no order; the next batch is asked for when it is wanted. Raises StorageError."""
        ...

    def stat(self, key: str) -> ListedObject:
        """Length and age of an object. Raises NotFound."""
        ...

    def remove_unfinished(self, written_before: datetime, *, dry_run: bool = False) -> Sequence[ListedObject]:
        """Remove what writers that were killed left of objects; no listing shows it. Returns it.

        Nothing on S3, where the bucket's lifecycle rule for incomplete uploads does that.
        """
        ...

    def check(self) -> None:
        """Raise StorageError when the store cannot be reached."""
        ...


def chunks_of(source: Source) -> Iterator[bytes]:
    """A file or an iterable as chunks; files are read on from where they stand."""
    if hasattr(source, "read"):
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
    else:
        yield from source


class Digest:
    """Counts and hashes the chunks that pass through it."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._num_bytes = 0

    def passing(self, source: Source) -> Iterator[bytes]:
        """The same chunks, counted and hashed on their way."""
        for chunk in chunks_of(source):
            self._sha256.update(chunk)
            self._num_bytes += len(chunk)
            yield chunk

    def result(self) -> StoredObject:
        """Length and digest of what has passed."""
        return StoredObject(self._num_bytes, self._sha256.hexdigest())


def digest_file(file: BinaryIO) -> StoredObject:
    """Length and digest of a file from where it stands; rewinds it there."""
    start = file.tell()
    digest = Digest()
    for _ in digest.passing(file):
        pass
    file.seek(start)
    return digest.result()


class ObstoreStorage:
    """A folder or an S3-compatible store, through obstore."""

    def __init__(self, store: LocalStore | S3Store, place: str, *, public: S3Store | None = None) -> None:
        self._store = store
        self._place = place
        self._public = public

    def put_stream(self, key: str, source: Source) -> StoredObject:
        digest = Digest()
        with self._translated(key):
            obstore.put(
                self._store,
                key,
                digest.passing(source),
                attributes=self._attributes(key),
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_IN_FLIGHT,
            )
        return digest.result()

    def _attributes(self, key: str) -> Attributes | None:
        """What a store that serves objects itself tells their readers; a folder keeps nothing of the kind."""
        if not isinstance(self._store, S3Store):
            return None
        return {"Content-Disposition": f'attachment; filename="{object_keys.download_name(key)}"'}

    def sign(self, key: str, *, seconds: int) -> str | None:
        if self._public is None:
            return None
        with self._translated(key):
            return obstore.sign(self._public, "GET", key, timedelta(seconds=seconds))

    def get_stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if length == 0:
            self.size(key)
            return iter(())
        with self._translated(key):
            if start == 0 and length is None:
                result = obstore.get(self._store, key)
            else:
                end = self.size(key) if length is None else start + length
                result = obstore.get(self._store, key, options={"range": (start, end)})
            return self._chunks(key, result)

    def _chunks(self, key: str, result: obstore.GetResult) -> Iterator[bytes]:
        with self._translated(key):
            for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        if length == 0:
            return b""
        with self._translated(key):
            return bytes(obstore.get_range(self._store, key, start=start, length=length))

    def size(self, key: str) -> int:
        with self._translated(key):
            return int(obstore.head(self._store, key)["size"])

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NotFound:
            return False
        return True

    def delete(self, key: str) -> None:
        try:
            with self._translated(key):
                obstore.delete(self._store, key)
        except NotFound:
            pass

    def list(self, prefix: str) -> Iterator[str]:
        with self._translated(prefix):
            for batch in obstore.list(self._store, prefix=prefix):
                yield from sorted(entry["path"] for entry in batch)

    def scan(self) -> Iterator[Sequence[ListedObject]]:
        with self._translated("."):
            for batch in obstore.list(self._store, chunk_size=SCAN_BATCH):
                yield [ListedObject(entry["path"], int(entry["size"]), entry["last_modified"]) for entry in batch]

    def stat(self, key: str) -> ListedObject:
        with self._translated(key):
            found = obstore.head(self._store, key)
        return ListedObject(key, int(found["size"]), found["last_modified"])

    def remove_unfinished(self, written_before: datetime, *, dry_run: bool = False) -> Sequence[ListedObject]:
        if not isinstance(self._store, LocalStore) or self._store.prefix is None:
            return []
        root, removed = Path(self._store.prefix), []
        for path in root.rglob("*#*"):
            # Gone meanwhile: its writer has finished after all.
            with suppress(FileNotFoundError):
                found = path.stat()
                modified_at = datetime.fromtimestamp(found.st_mtime, UTC)
                if UNFINISHED.search(path.name) and path.is_file() and modified_at < written_before:
                    if not dry_run:
                        path.unlink()
                    removed.append(ListedObject(path.relative_to(root).as_posix(), found.st_size, modified_at))
        return removed

    def check(self) -> None:
        with self._translated("."):
            obstore.list_with_delimiter(self._store, prefix="generators")

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """The store's errors as ours, in words that say which store and what to do."""
        try:
            yield
        except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
            raise NotFound(f"The object {key} is not in the store {self._place}.") from error
        except (BaseError, OSError) as error:
            text = str(error)
            if any(sign in text for sign in FULL_SIGNS):
                detail = f"The object store {self._place} is full. Free space or enlarge it, then retry the job."
                raise StorageFull(detail) from error
            raise StorageError(f"The object store {self._place} failed at {key}: {text[:500]}") from error


def open_storage(settings: Settings) -> ObstoreStorage:
    """The store that the settings name."""
    url = urlparse(settings.resolved_storage_url)
    if url.scheme == "file":
        folder = Path(unquote(url.path))
        return ObstoreStorage(LocalStore(folder, automatic_cleanup=True, mkdir=True), str(folder))
    place = (url.netloc, url.path.strip("/"))
    public = _open_s3(settings, *place, endpoint=settings.s3_public_endpoint or settings.s3_endpoint)
    store = _open_s3(settings, *place, endpoint=settings.s3_endpoint)
    return ObstoreStorage(store, settings.resolved_storage_url, public=public)


def _open_s3(settings: Settings, bucket: str, prefix: str, *, endpoint: str | None) -> S3Store:
    config: S3Config = {"region": settings.s3_region, "virtual_hosted_style_request": settings.s3_virtual_hosted}
    if endpoint:
        config["endpoint"] = endpoint
    if settings.s3_access_key_id and settings.s3_secret_access_key:
        config["access_key_id"] = settings.s3_access_key_id.get_secret_value()
        config["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=config,
        client_options={
            "allow_http": True,
            "connect_timeout": timedelta(seconds=5),
            # A connection that was cut without a word; a large object that keeps coming may take longer.
            "read_timeout": timedelta(seconds=settings.s3_timeout_seconds),
            "timeout": timedelta(minutes=10),
        },
        retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=60)},
    )
