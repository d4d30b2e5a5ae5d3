"""One contract for all object stores: the fake, the folder, and a real S3-compatible server."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import obstore
import pytest

from service.errors import NotFound, StorageFull
from service.ids import new_id
from service.settings import Settings
from service.storage import SCAN_BATCH, ObjectStorage, ObstoreStorage, StorageError, digest_file, open_storage
from tests.fakes import MemoryStorage
from tests.servers import S3Address

BIG = bytes(range(256)) * (80 << 10)  # 20 MiB: several parts of a multipart upload


@pytest.fixture(params=["memory", "folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    if request.param == "memory":
        return MemoryStorage()
    if request.param == "s3":
        address: S3Address = request.getfixturevalue("s3_address")
        for name, value in address.environment(prefix=new_id("job")).items():
            monkeypatch.setenv(name, value)
    return open_storage(Settings(data_dir=tmp_path))


def read(storage: ObjectStorage, key: str, **part: int) -> bytes:
    return b"".join(storage.get_stream(key, **part))


def test_what_was_put_comes_back(storage: ObjectStorage) -> None:
    storage.check()
    for key, content in {"a/b/small.txt": b"hello", "a/big.bin": BIG, "a/empty": b""}.items():
        stored = storage.put_stream(key, io.BytesIO(content))
        assert (stored.num_bytes, stored.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert read(storage, key) == content
        assert storage.size(key) == len(content)
        assert storage.exists(key)


def test_chunks_are_taken_as_well_as_files(storage: ObjectStorage) -> None:
    stored = storage.put_stream("chunks", iter([b"ab", b"", b"c" * 3_000_000]))
    assert stored.num_bytes == 3_000_002
    assert read(storage, "chunks")[:3] == b"abc"


def test_ranges(storage: ObjectStorage) -> None:
    storage.put_stream("digits", io.BytesIO(b"0123456789"))
    assert storage.get_range("digits", 2, 3) == b"234"
    assert read(storage, "digits", start=7) == b"789"
    assert read(storage, "digits", start=2, length=5) == b"23456"
    assert read(storage, "digits", start=2, length=0) == b""


def test_putting_again_replaces(storage: ObjectStorage) -> None:
    storage.put_stream("key", io.BytesIO(b"first, and long"))
    storage.put_stream("key", io.BytesIO(b"second"))
    assert read(storage, "key") == b"second"


def test_a_source_that_breaks_leaves_nothing(storage: ObjectStorage) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 9_000_000
        raise RuntimeError("the upload broke off")

    with pytest.raises((RuntimeError, StorageError)):
        storage.put_stream("broken", broken())
    assert not storage.exists("broken")


def test_missing_objects_are_not_found(storage: ObjectStorage) -> None:
    assert not storage.exists("nothing")
    storage.delete("nothing")
    for call in (storage.size, storage.get_stream):
        with pytest.raises(NotFound):
            call("nothing")
    with pytest.raises(NotFound):
        storage.get_range("nothing", 0, 1)


def test_listing_and_deleting(storage: ObjectStorage) -> None:
    keys = [f"steps/one/{index:02}" for index in range(12)]
    for key in [*keys, "steps/two/00"]:
        storage.put_stream(key, io.BytesIO(b"x"))
    assert sorted(storage.list("steps/one/")) == keys
    for key in keys:
        storage.delete(key)
    assert list(storage.list("steps/one/")) == []
    assert storage.exists("steps/two/00")


def test_a_scan_sees_everything_with_length_and_age(storage: ObjectStorage) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    keys = {f"a/{index // 10}/{index}" for index in range(40)} | {"b/c", "top"}
    for key in keys:
        storage.put_stream(key, io.BytesIO(b"four"))
    found = {item.key: item for batch in storage.scan() for item in batch}
    assert set(found) == keys
    for item in found.values():
        assert item.num_bytes == 4
        assert before <= item.modified_at <= datetime.now(UTC) + timedelta(seconds=2)
    assert storage.stat("top") == found["top"]
    with pytest.raises(NotFound):
        storage.stat("nothing")


def test_what_is_scanned_may_be_deleted_meanwhile(storage: ObjectStorage) -> None:
    for index in range(SCAN_BATCH + 20):
        storage.put_stream(f"a/{index}/x", io.BytesIO(b"x"))
    for batch in storage.scan():
        assert len(batch) <= SCAN_BATCH
        for item in batch:
            storage.delete(item.key)
    assert [item for batch in storage.scan() for item in batch] == []


def test_a_wrong_secret_is_told(s3_address: S3Address, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_address.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LABEL_FACTORY_S3_SECRET_ACCESS_KEY", "guess")
    storage = open_storage(Settings())
    with pytest.raises(StorageError, match="s3://factory"):
        storage.put_stream("x", io.BytesIO(b"x"))


@pytest.mark.parametrize("sign", ["No space left on device (os error 28)", "Server returned 507 Insufficient Storage"])
def test_a_full_store_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise obstore.exceptions.GenericError(f"Generic LocalFileSystem error: Unable to copy data to file: {sign}")

    storage = open_storage(Settings(data_dir=tmp_path))
    monkeypatch.setattr(obstore, "put", full)
    with pytest.raises(StorageFull, match="is full"):
        storage.put_stream("key", io.BytesIO(b"x"))


def test_keys_cannot_leave_the_folder(tmp_path: Path) -> None:
    storage: ObstoreStorage = open_storage(Settings(data_dir=tmp_path / "data"))
    with pytest.raises((StorageError, NotFound, ValueError)):
        storage.put_stream("../../outside", io.BytesIO(b"x"))
    assert not (tmp_path / "outside").exists()


def test_digest_file_rewinds() -> None:
    file = io.BytesIO(b"abc")
    assert digest_file(file).num_bytes == 3
    assert file.read() == b"abc"


def test_only_a_store_that_serves_its_objects_itself_signs_addresses(storage: ObjectStorage) -> None:
    storage.put_stream("students/stu_x/1/student.zip", iter([b"zip"]))
    url = storage.sign("students/stu_x/1/student.zip", seconds=60)
    if isinstance(storage, ObstoreStorage) and url is not None:
        answer = httpx2.get(url, trust_env=False)
        assert answer.content == b"zip"
        assert answer.headers["content-disposition"] == 'attachment; filename="stu_x.zip"'
        assert httpx2.delete(url, trust_env=False).status_code == 403
    else:
        assert url is None
