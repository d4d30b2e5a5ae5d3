"""Named fakes of outside things; each passes the same contract test as the real one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from service.doorbell import ListDoorbell
from service.errors import NotFound, StorageFull
from service.storage import Digest, ListedObject, Source, StoredObject

__all__ = ["ListDoorbell", "MemoryStorage"]


class MemoryStorage:
    """Objects in a dictionary; `room` makes it run full."""

    def __init__(self, room: int | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.modified_at: dict[str, datetime] = {}
        self.room = room

    def put_stream(self, key: str, source: Source) -> StoredObject:
        digest = Digest()
        content = b"".join(digest.passing(source))
        if self.room is not None and sum(map(len, self.objects.values())) + len(content) > self.room:
            raise StorageFull("The object store in memory is full.")
        self.objects[key] = content
        self.modified_at[key] = datetime.now(UTC)
        return digest.result()

    def get_stream(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        content = self._get(key)
        end = len(content) if length is None else start + length
        return iter([content[start:end]] if start < end else [])

    def get_range(self, key: str, start: int, length: int) -> bytes:
        return self._get(key)[start : start + length]

    def size(self, key: str) -> int:
        return len(self._get(key))

    def exists(self, key: str) -> bool:
        return key in self.objects

    def delete(self, key: str) -> None:
        self.objects.pop(key, None)

    def sign(self, key: str, *, seconds: int) -> str | None:
        return None

    def list(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def scan(self) -> Iterator[Sequence[ListedObject]]:
        for key in list(self.objects):
            if key in self.objects:
                yield [self.stat(key)]

    def stat(self, key: str) -> ListedObject:
        return ListedObject(key, len(self._get(key)), self.modified_at[key])

    def remove_unfinished(self, written_before: datetime, *, dry_run: bool = False) -> Sequence[ListedObject]:
        return []

    def check(self) -> None:
        pass

    def _get(self, key: str) -> bytes:
        if key not in self.objects:
            raise NotFound(f"The object {key} is not in the store in memory.")
        return self.objects[key]
