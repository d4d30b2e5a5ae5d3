"""Orphans go at their age; what a row names, what is young and what is not ours stays, whatever happens meanwhile."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st
from sqlalchemy import select, update

from service import events, image_pools, jobs, object_keys, steps
from service.bootstrap import Factory, build_factory
from service.clock import database_now
from service.collector import Collected, collect, collect_in_turn
from service.doorbell import ListDoorbell
from service.errors import Conflict, StorageFull
from service.ids import new_id
from service.object_keys import KINDS, STORE_MARKER, STORE_OWNER, parse
from service.settings import Settings
from service.storage import ListedObject, ObjectStorage, ObstoreStorage, Source, StorageError, StoredObject
from service.tables import DEFAULT_WORKSPACE_ID, Dataset, DatasetExport, DatasetShard, PoolPart, Step, Student
from service.unit_of_work import Work
from tests import factories
from tests.fakes import MemoryStorage
from tests.servers import S3Address

DAY = 86_400.0


def in_memory(factory: Factory) -> tuple[Factory, MemoryStorage]:
    storage = MemoryStorage()
    return dataclasses.replace(factory, storage=storage), storage


def put(factory: Factory, *keys: str, age: float = 2 * DAY) -> None:
    """Objects of one byte that were written `age` seconds ago."""
    for key in keys:
        factory.storage.put_stream(key, io.BytesIO(b"x"))
        make_old(factory, key, age)


def make_old(factory: Factory, key: str, age: float = 2 * DAY) -> None:
    then = time.time() - age
    if isinstance(factory.storage, MemoryStorage):
        factory.storage.modified_at[key] = datetime.fromtimestamp(then, UTC)
    else:
        os.utime(factory.settings.data_dir / "objects" / key, (then, then))


def there(factory: Factory) -> set[str]:
    return {item.key for batch in factory.storage.scan() for item in batch} - {STORE_MARKER, STORE_OWNER}


# What each kind's rows name.


def named_generator(work: Work, name: Callable[[str], str]) -> list[str]:
    generator_id = new_id("gen")
    prefix = object_keys.generator_prefix(generator_id, 3)
    factories.make_generator(work, id=generator_id, key_prefix=prefix)
    return [name(prefix)]


def step_of(work: Work) -> Step:
    job = jobs.create(work, factories.label_spec(work)).job
    return work.session.scalars(select(Step).where(Step.job_id == job.id)).one()


def dataset_of(work: Work) -> Dataset:
    row = Dataset(id=new_id("ds"), job_id=step_of(work).job_id, name="d", state="building", classes=factories.CLASSES)
    row.image_height = row.image_width = 64
    row.card, row.statistics = {}, {}
    work.session.add(row)
    work.session.flush()
    return row


def named_pool_part(work: Work) -> list[str]:
    pool = factories.make_pool(work, sizes=(3, 4))
    return [part.key for part in image_pools.parts(work, pool.id)]


def named_step_file(work: Work) -> list[str]:
    step = step_of(work)
    head, sheet, piece, manifest = (object_keys.step_file(step.id, 1, name) for name in ("h", "s.png", "p", "c.json"))
    step.state, step.output, step.checkpoint_key, step.token = "ready", {"deep": [{"head_key": head}]}, manifest, 1
    events.sample(work, step.job_id, step.id, sheet)
    work.storage.put_stream(manifest, [json.dumps({"piece": piece}).encode()])
    return [head, sheet, piece, manifest]


def named_shard(work: Work) -> list[str]:
    dataset = dataset_of(work)
    key = object_keys.dataset_shard(dataset.id, 0, 7)
    row = {"sha256": "0" * 64, "num_bytes": 1, "num_images": 1, "pool_kind": "encoded"}
    work.session.add(DatasetShard(dataset_id=dataset.id, index=0, key=key, **row))
    return [key]


def named_manifest(work: Work) -> list[str]:
    # Not sealed: an attempt at sealing may have stored it and will store it again.
    return [object_keys.dataset_manifest(dataset_of(work).id)]


def named_export(work: Work) -> list[str]:
    dataset = dataset_of(work)
    key = object_keys.dataset_export(dataset.id, "coco", 7)
    row = {"sha256": "0" * 64, "num_bytes": 1, "validation": {}}
    work.session.add(DatasetExport(dataset_id=dataset.id, format="coco", key=key, **row))
    return [key]


def named_student(work: Work) -> list[str]:
    dataset = dataset_of(work)
    new = factories.new_student(dataset.id)
    values = {key: getattr(new, key) for key in new.__dataclass_fields__ if key != "files"}
    files = [dataclasses.asdict(file) for file in new.files]
    work.session.add(Student(job_id=dataset.job_id, files=files, **values))
    return [new.files[0].key, new.archive_key]


NAMED: dict[str, Callable[[Work], list[str]]] = {
    "store_marker": lambda _work: [STORE_MARKER],
    "generator_prefix": lambda work: named_generator(work, lambda prefix: prefix + "unet/w.safetensors"),
    "generator_archive": lambda work: named_generator(work, object_keys.generator_archive),
    "pool_part": named_pool_part,
    "annotation_set": lambda work: [factories.make_annotation_set(work).key],
    "annotation_index": lambda work: [object_keys.annotation_index(factories.make_annotation_set(work).key)],
    "step_file": named_step_file,
    "dataset_shard": named_shard,
    "dataset_manifest": named_manifest,
    "dataset_export": named_export,
    "student_file": named_student,
}
"""Kind -> rows that name such objects; returns their keys."""

SHA = "f" * 64
ORPHANS: dict[str, Callable[[str], str]] = {
    "store_probe": object_keys.store_probe,
    "generator_prefix": lambda owner: object_keys.generator_prefix(owner, 9) + "unet/w.safetensors",
    "generator_archive": lambda owner: object_keys.generator_archive(object_keys.generator_prefix(owner, 9)),
    "pool_part": lambda owner: object_keys.pool_part(owner, 5, SHA),
    "annotation_set": lambda owner: object_keys.annotation_set(owner, SHA),
    "annotation_index": lambda owner: object_keys.annotation_index(object_keys.annotation_set(owner, SHA)),
    "step_file": lambda owner: object_keys.step_file(owner, 0, "checkpoint-1-piece"),
    "dataset_shard": lambda owner: object_keys.dataset_shard(owner, 0, 6),
    "dataset_manifest": lambda _owner: object_keys.dataset_manifest(new_id("ds")),
    "dataset_export": lambda owner: object_keys.dataset_export(owner, "coco", 6),
    "student_file": lambda owner: object_keys.student_file(owner, 0, "model.onnx"),
}
"""Kind -> an object of this owner that no row names."""


def named_and_stored(factory: Factory, kind: str) -> list[str]:
    with factory.work() as work:
        keys = NAMED[kind](work)
    for key in keys:
        if not factory.storage.exists(key):
            put(factory, key)
    for key in there(factory):
        make_old(factory, key)
    return keys


def test_every_kind_has_its_case() -> None:
    assert {*NAMED, "store_probe"} == set(KINDS), "no row names a probe"
    assert {*ORPHANS, "store_marker"} == set(KINDS)


@pytest.mark.parametrize("kind", NAMED)
def test_what_a_row_names_stays_and_what_none_names_goes(any_factory: Factory, kind: str) -> None:
    kept = named_and_stored(any_factory, kind)
    assert all(parse(key).kind == kind or kind == "step_file" for key in kept)  # type: ignore[union-attr]
    rest = there(any_factory)
    if kind == "store_marker":
        assert collect(any_factory).num_removed == 0
        return
    owner = parse(kept[0]).owner_id  # type: ignore[union-attr]
    orphans = {ORPHANS[kind](owner), ORPHANS[kind](new_id("step"))}
    assert all(parse(key).kind == kind for key in orphans)  # type: ignore[union-attr]
    put(any_factory, *orphans)
    put(any_factory, young := ORPHANS[kind](new_id("step")), age=DAY - 60)

    seen: list[str] = []
    looked = collect(any_factory, dry_run=True, on_orphan=lambda item: seen.append(item.key))
    assert set(seen) >= orphans
    assert there(any_factory) == rest | orphans | {young}
    removed = collect(any_factory)
    assert (removed.num_removed, removed.num_bytes) == (looked.num_removed, looked.num_bytes)
    left = there(any_factory)
    assert set(kept) - {STORE_MARKER} <= left
    assert young in left
    assert not orphans & left
    assert collect(any_factory).num_removed == 0


@limits(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([(kind, named) for kind in sorted(ORPHANS) for named in {kind in NAMED, False}]),
            st.sampled_from([0.0, DAY - 60, DAY + 60, 90 * DAY]),
        ),
        max_size=12,
    )
)
def test_exactly_the_old_and_unnamed_go(factory: Factory, objects: list[tuple[tuple[str, bool], float]]) -> None:
    made, _ = in_memory(factory)
    gone: set[str] = set()
    ages: dict[str, float] = {}
    for (kind, is_named), age in objects:
        with made.work() as work:
            keys = NAMED[kind](work) if is_named else [ORPHANS[kind](new_id("step"))]
        ages |= dict.fromkeys(keys, age)
        gone |= set(keys) if age > DAY and not is_named else set()
    for key, age in ages.items():
        if not made.storage.exists(key):
            put(made, key)
        make_old(made, key, age)
    before = there(made)
    result = collect(made)
    assert before - there(made) == gone
    assert result.num_removed == result.num_bytes == len(gone)


def test_keys_of_somebody_else_stay(factory: Factory) -> None:
    keys = {"backup/pools/x.tar", "pools/notes.txt", "steps/step_x/notes", "datasets/x/other.json"}
    put(factory, *keys)
    result = collect(factory)
    assert there(factory) == keys
    assert (result.num_unknown, result.num_removed) == (4, 0)


def test_the_objects_of_another_database_stay(factory: Factory, postgresql_factory: Factory) -> None:
    """A mistaken setting or a new, empty database must not make every object an orphan."""
    collect(factory)
    keys = [ORPHANS[kind](new_id("step")) for kind in ORPHANS]
    put(factory, *keys)
    mistaken = with_storage(postgresql_factory, factory.storage)
    for dry_run in (True, False):
        with pytest.raises(Conflict, match="another database"):
            collect(mistaken, dry_run=dry_run)
    with pytest.raises(Conflict):
        collect_in_turn(mistaken)
    assert there(factory) == set(keys)
    owner = b"".join(factory.storage.get_stream(STORE_OWNER))
    for broken in (b"", b"[]", b"{}"):
        factory.storage.put_stream(STORE_OWNER, [broken])
        with pytest.raises(Conflict):
            collect(factory)
    factory.storage.put_stream(STORE_OWNER, [owner])
    make_old(factory, STORE_OWNER)
    assert collect(factory).num_removed == len(keys)
    assert factory.storage.exists(STORE_OWNER)


def test_the_whole_path_on_postgresql_and_s3(
    postgresql_factory: Factory, s3_address: S3Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_address.environment(prefix=new_id("job")).items():
        monkeypatch.setenv(name, value)
    settings = Settings(database_url=postgresql_factory.settings.database_url)
    factory = build_factory(settings, doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    kept = set()
    for kind in NAMED:
        with factory.work() as work:
            kept |= set(NAMED[kind](work))
    orphans = {ORPHANS[kind](new_id("step")) for kind in ORPHANS}
    for key in (kept | orphans) - {STORE_MARKER}:
        if not factory.storage.exists(key):
            factory.storage.put_stream(key, io.BytesIO(b"x"))
    assert collect(factory).num_removed == 0  # all are young
    time.sleep(1.1)
    before = there(factory)
    assert collect(factory, older_than_seconds=0).num_removed == len(orphans)
    assert there(factory) == before - orphans
    factory.close()


class Meanwhile:
    """A store in which something happens after a batch was listed, or when a part was put."""

    def __init__(self, inner: ObjectStorage, after_listing: Callable[[], None]) -> None:
        self._inner, self._after_listing = inner, after_listing

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def scan(self) -> Iterator[Sequence[ListedObject]]:
        for batch in list(self._inner.scan()):
            self._after_listing()
            yield batch


def with_storage(factory: Factory, storage: object) -> Factory:
    return dataclasses.replace(factory, storage=storage)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", sorted(ORPHANS))
def test_what_is_written_again_after_it_was_listed_stays(factory: Factory, kind: str) -> None:
    key = ORPHANS[kind](new_id("step"))
    put(factory, key)
    storage = Meanwhile(factory.storage, lambda: put(factory, key, age=0))
    assert collect(with_storage(factory, storage)).num_removed == 0
    assert factory.storage.exists(key)


def test_a_row_that_comes_after_the_listing_is_seen(any_factory: Factory) -> None:
    with any_factory.work() as work:
        step = step_of(work)
    key = object_keys.step_file(step.id, 0, "head.tar")
    put(any_factory, key)

    def record() -> None:
        with any_factory.work() as work:
            work.session.execute(update(Step).where(Step.id == step.id).values(output={"head_key": key}))

    collect(with_storage(any_factory, Meanwhile(any_factory.storage, record)))
    assert any_factory.storage.exists(key)


class SlowPut:
    """A store whose puts are seen by all and return later; the object looks old, so that only locks protect it."""

    def __init__(self, factory: Factory) -> None:
        self._factory, self.stored = factory, threading.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._factory.storage, name)

    def put_stream(self, key: str, source: Source) -> StoredObject:
        found = self._factory.storage.put_stream(key, source)
        make_old(self._factory, key)
        self.stored.set()
        time.sleep(1.0)
        return found


def test_a_part_that_is_being_added_again_stays(any_factory: Factory) -> None:
    """The first upload was killed between object and row; the second writes the same key while the collector looks."""
    with any_factory.work() as work:
        pool = image_pools.create(work, "open")
    storage = SlowPut(any_factory)

    def upload() -> None:
        with with_storage(any_factory, storage).work() as work:
            image_pools.add_part(work, pool.id, io.BytesIO(b"p"), num_images=1, image_height=8, image_width=8)

    thread = threading.Thread(target=upload)
    thread.start()
    assert storage.stored.wait(20)
    result = collect(any_factory)
    thread.join()
    assert result.num_removed == 0
    with any_factory.read() as work:
        (key,) = work.session.scalars(select(PoolPart.key).where(PoolPart.pool_id == pool.id))
    assert any_factory.storage.exists(key)


def test_files_of_the_running_attempt_stay_whatever_their_age(any_factory: Factory) -> None:
    factories.make_job(any_factory)
    step = factories.must_claim(any_factory)
    key = object_keys.step_file(step.id, step.token, "head.tar")
    put(any_factory, key, former := object_keys.step_file(step.id, step.token - 1, "head.tar"))
    factories.lose(any_factory, step.id)  # a silent worker may come back as long as nobody takes its step
    collect(any_factory)
    assert any_factory.storage.exists(key)
    assert not any_factory.storage.exists(former)
    other = factories.must_claim(any_factory, "worker-2")
    assert other.id == step.id
    collect(any_factory)
    assert not any_factory.storage.exists(key)


def checkpoint(factory: Factory, state: str, *, ended_days_ago: float | None = None) -> tuple[str, set[str]]:
    """A step with a checkpoint of an earlier attempt; its id and the checkpoint's keys."""
    job = factories.make_job(factory)
    with factory.work() as work:
        step = work.session.scalars(select(Step).where(Step.job_id == job.id)).one()
        manifest, piece = (object_keys.step_file(step.id, 1, name) for name in ("checkpoint-2.json", "checkpoint-1-p"))
        step.state, step.token, step.checkpoint_key = state, 2, manifest
        work.storage.put_stream(manifest, [json.dumps({"p": piece}).encode()])
        if ended_days_ago is not None:
            job = jobs.get(work, job.id)
            job.state, job.finished_at = state, database_now()  # type: ignore[assignment]
            step.finished_at = database_now(-ended_days_ago * DAY)  # type: ignore[assignment]
        step.created_at = database_now(-3 * DAY)  # type: ignore[assignment]
    put(factory, piece)
    make_old(factory, manifest)
    return step.id, {manifest, piece}


@pytest.mark.parametrize("state", ["ready", "running"])
def test_a_checkpoint_stays_while_its_step_goes_on(any_factory: Factory, state: str) -> None:
    step_id, keys = checkpoint(any_factory, state)
    put(any_factory, superseded := object_keys.step_file(step_id, 1, "checkpoint-0-p"))
    collect(any_factory)
    assert all(any_factory.storage.exists(key) for key in keys)
    assert not any_factory.storage.exists(superseded)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_checkpoint_is_forgotten_before_its_objects_go(any_factory: Factory, state: str) -> None:
    young, kept = checkpoint(any_factory, state, ended_days_ago=0.9)
    old, gone = checkpoint(any_factory, state, ended_days_ago=1.1)
    looked: set[str] = set()
    collect(any_factory, dry_run=True, on_orphan=lambda item: looked.add(item.key))
    assert gone <= looked
    assert not kept & looked
    assert collect(any_factory).num_forgotten == 1
    left = there(any_factory)
    assert kept <= left
    assert not gone & left
    with any_factory.read() as work:
        assert steps.get(work, young).checkpoint_key in kept
        assert steps.get(work, old).checkpoint_key is None


def test_a_job_that_is_retried_keeps_its_checkpoint_or_begins_anew(any_factory: Factory) -> None:
    step_id, keys = checkpoint(any_factory, "failed", ended_days_ago=3)

    def retry() -> None:
        with any_factory.work() as work:
            if steps.get(work, step_id).state == "failed":
                jobs.retry(work, steps.get(work, step_id).job_id)

    collect(with_storage(any_factory, Meanwhile(any_factory.storage, retry)))
    with any_factory.read() as work:
        row = steps.get(work, step_id)
    assert row.state == "ready"
    assert row.checkpoint_key is None
    step_id, keys = checkpoint(any_factory, "failed", ended_days_ago=3)
    retry()
    collect(any_factory)
    assert all(any_factory.storage.exists(key) for key in keys)


@pytest.mark.parametrize("content", [None, b"no json", b'["a list"]'])
def test_a_manifest_that_cannot_be_read_keeps_everything_of_its_step(factory: Factory, content: bytes | None) -> None:
    _, keys = checkpoint(factory, "ready")
    (manifest,) = {key for key in keys if key.endswith(".json")}
    if content is None:
        factory.storage.delete(manifest)
    else:
        factory.storage.put_stream(manifest, [content])
        make_old(factory, manifest)
    assert collect(factory).num_removed == 0


def test_one_collects_at_a_time_and_in_its_time(any_factory: Factory) -> None:
    put(any_factory, ORPHANS["student_file"](new_id("stu")))
    inner: list[Collected | None] = []
    storage = Meanwhile(any_factory.storage, lambda: inner.append(collect_in_turn(any_factory)))
    first = collect_in_turn(with_storage(any_factory, storage))
    assert first is not None
    assert first.num_removed == 1
    assert inner == [None]
    assert collect_in_turn(any_factory, every_seconds=60) is None
    assert collect_in_turn(any_factory) is not None


def test_a_collection_that_breaks_off_is_taken_up_by_the_next(factory: Factory) -> None:
    put(factory, ORPHANS["student_file"](new_id("stu")))

    def broken() -> None:
        raise StorageError("the store went away")

    with pytest.raises(StorageError):
        collect_in_turn(with_storage(factory, Meanwhile(factory.storage, broken)), every_seconds=60)
    stopped = collect_in_turn(factory, every_seconds=60, stop=lambda: True)
    assert stopped is not None
    assert stopped.num_removed == 0
    finished = collect_in_turn(factory, every_seconds=60)
    assert finished is not None
    assert finished.num_removed == 1


def test_an_orphan_that_cannot_be_deleted_does_not_stop_the_others(factory: Factory) -> None:
    class Stubborn(Meanwhile):
        def delete(self, key: str) -> None:
            if "/1/" in key:
                raise StorageFull("not now")
            self._inner.delete(key)

    put(factory, *(object_keys.student_file("stu_x", token, "f") for token in range(3)))
    result = collect(with_storage(factory, Stubborn(factory.storage, lambda: None)))
    assert (result.num_removed, result.num_failed) == (2, 1)
    assert len(there(factory)) == 1


def test_a_store_of_any_size_is_gone_through_in_little_memory(factory: Factory) -> None:
    asked = 0

    class Endless(MemoryStorage):
        """Listed without end; every object is an old orphan that is gone when it is looked at."""

        def scan(self) -> Iterator[Sequence[ListedObject]]:
            nonlocal asked
            old = datetime.now(UTC) - timedelta(days=2)
            while True:
                first, asked = asked * 500, asked + 1
                yield [ListedObject(f"datasets/ds_{n}/shards/00000-1.tar", 1, old) for n in range(first, first + 500)]

    factory = with_storage(factory, Endless())
    collect(factory, dry_run=True, stop=lambda: asked > 3)
    tracemalloc.start()
    try:
        result = collect(factory, dry_run=True, stop=lambda: asked > 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.num_seen >= 40_000
    assert asked <= 102
    assert peak < 16 << 20


@pytest.mark.parametrize("values", [{"orphan_seconds": 60}, {"orphan_seconds": 7_200, "lease_seconds": 3_600}])
def test_an_age_that_could_lose_data_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"(?i)orphan_seconds"):
        Settings(**values)  # type: ignore[arg-type]


def test_what_a_killed_writer_left_of_an_object_goes(factory: Factory) -> None:
    """A folder's objects are written beside their place; a listing does not show that."""
    key = object_keys.dataset_shard(new_id("ds"), 0, 1)
    folder = factory.settings.data_dir / "objects"
    script = "import os, sys; from service.settings import Settings; from service.storage import open_storage\n"
    script += "def source():\n yield b'x' * 20_000_000\n os.kill(os.getpid(), 9)\n yield b''\n"
    script += "open_storage(Settings()).put_stream(sys.argv[1], source())"
    environment = {**os.environ, "LABEL_FACTORY_DATA_DIR": str(factory.settings.data_dir)}
    subprocess.run([sys.executable, "-c", script, key], env=environment, timeout=60, check=False)
    assert there(factory) == set()
    (left,) = (path for path in folder.rglob("*") if path.name.startswith("00000-1.tar"))
    size = left.stat().st_size
    assert collect(factory).num_removed == 0
    make_old(factory, left.relative_to(folder).as_posix())
    assert collect(factory, dry_run=True).num_bytes == size
    result = collect(factory)
    assert (result.num_removed, result.num_bytes, dict(result.kinds)) == (1, size, {"unfinished": 1})
    assert not left.exists()


def test_the_folder_of_the_store_is_what_the_tests_make_old(factory: Factory, tmp_path: Path) -> None:
    put(factory, "top", age=2 * DAY)
    assert isinstance(factory.storage, ObstoreStorage)
    assert datetime.now(UTC) - factory.storage.stat("top").modified_at > timedelta(days=1.9)
