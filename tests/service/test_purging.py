"""What was deleted or has expired leaves no object and no row below it, however often the purge is killed."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from service import datasets, duties, events, generators, image_pools, jobs, object_keys, purging, reports, students
from service.bootstrap import Factory, build_factory
from service.clock import database_now
from service.collector import collect
from service.datasets import NewExport
from service.doorbell import ListDoorbell
from service.errors import Gone
from service.ids import first_id, new_id
from service.object_keys import STORE_MARKER, STORE_OWNER
from service.purging import purge, purge_in_turn
from service.settings import Settings
from service.storage import StorageError
from service.students import StudentFile
from service.tables import (
    DEFAULT_WORKSPACE_ID,
    AuditEntry,
    Dataset,
    DatasetExport,
    DatasetImage,
    DatasetShard,
    Event,
    Job,
    PoolPart,
    Step,
)
from tests import factories
from tests.fakes import MemoryStorage
from tests.servers import S3Address
from tests.service.test_deletion import MODULES, delete

CHILDREN = (DatasetImage, DatasetShard, DatasetExport, PoolPart, Event, Step)


def put(factory: Factory, *keys: str) -> None:
    for key in keys:
        factory.storage.put_stream(key, io.BytesIO(b"x"))


def there(factory: Factory) -> set[str]:
    return {item.key for batch in factory.storage.scan() for item in batch} - {STORE_MARKER, STORE_OWNER}


def rows_left(factory: Factory) -> dict[str, int]:
    with factory.read() as work:
        counted = {table.__name__: work.session.scalar(select(func.count()).select_from(table)) for table in CHILDREN}
    return {name: number for name, number in counted.items() if number}


def furnish(factory: Factory) -> dict[str, str]:
    """A whole job's worth of rows with all their objects; noun -> id."""
    with factory.work() as work:
        pool = factories.make_pool(work, sizes=(3, 4))
        few = factories.make_annotation_set(work)
        work.storage.put_stream(object_keys.annotation_index(few.key), [b"[]"])
        generator_id = new_id("gen")
        prefix = object_keys.generator_prefix(generator_id, 3)
        factories.make_generator(work, id=generator_id, key_prefix=prefix)
    put(factory, prefix + "unet/w.safetensors", prefix + "generator.json", object_keys.generator_archive(prefix))
    dataset = factories.make_dataset(factory, annotation_set_id=few.id, generator=generator_id)
    with factory.work() as work:
        row = datasets.get(work, dataset.id)
        row.manifest_key = object_keys.dataset_manifest(dataset.id)
        export_key = object_keys.dataset_export(dataset.id, "coco", 7)
        datasets.record_export(work, dataset.id, NewExport("coco", export_key, "0" * 64, 1, {}))
        put(factory, row.manifest_key, export_key, *(shard.key for shard in datasets.shards(work, dataset.id)))
        step = work.session.scalars(select(Step).where(Step.job_id == dataset.job_id, Step.kind == "fit_head")).one()
        head, sheet = (object_keys.step_file(step.id, 1, name) for name in ("head.tar", "extremes.png"))
        step.output = {"head_key": head}
        put(factory, head, sheet, object_keys.step_file(step.id, 1, "left.png"))
        events.sample(work, dataset.job_id, step.id, sheet)
        new = factories.new_student(dataset.id)
        file = StudentFile("config.json", object_keys.student_file(new.id, 1, "config.json"), 2, "0" * 64)
        new = dataclasses.replace(new, files=[file], archive_key=object_keys.student_file(new.id, 1, "student.zip"))
        put(factory, file.key, new.archive_key)
        students.record(work, dataset.job_id, new)
        content = {"verdict": "good", "sheet": {"key": sheet, "images": [0]}}
        report = reports.record(work, dataset.job_id, content, student_id=new.id)
    return {
        "annotation set": few.id,
        "image pool": pool.id,
        "generator": generator_id,
        "dataset": dataset.id,
        "student": new.id,
        "report": report.id,
        "job": dataset.job_id,
    }


@pytest.fixture(params=["sqlite and a folder", "postgresql and s3"])
def furnished(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Factory, dict[str, str]]]:
    """Both ways to run, with everything in them."""
    if request.param == "sqlite and a folder":
        factory: Factory = request.getfixturevalue("factory")
        yield factory, furnish(factory)
        return
    address: S3Address = request.getfixturevalue("s3_address")
    for name, value in address.environment(prefix=new_id("job")).items():
        monkeypatch.setenv(name, value)
    url = request.getfixturevalue("postgresql_factory").settings.database_url
    made = build_factory(Settings(database_url=url), doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    yield made, furnish(made)
    made.close()


KEPT_PREFIXES = {
    "annotation set": "annotation_sets/",
    "image pool": "pools/",
    "generator": "generators/",
    "dataset": "datasets/",
    "student": "students/",
}


def test_all_of_it_goes_and_nothing_else(furnished: tuple[Factory, dict[str, str]]) -> None:
    factory, ids = furnished
    put(factory, stranger := "steps/notes.txt")
    assert purge_in_turn(factory) == 0
    for noun, prefix in KEPT_PREFIXES.items():
        before = there(factory)
        assert any(key.startswith(prefix) for key in before)
        delete(factory, noun, ids[noun])
        assert there(factory) == before, "objects go later"
        assert purge_in_turn(factory) == 1
        assert there(factory) == {key for key in before if not key.startswith(prefix)}
        assert purge_in_turn(factory) == 0
    delete(factory, "job", ids["job"])
    assert purge_in_turn(factory) == 1
    assert rows_left(factory).keys() == {"Step"}
    with factory.read() as work:
        assert factory.storage.exists(reports.sheet_key(reports.get(work, ids["report"])))
    collect(factory, older_than_seconds=0)
    with factory.read() as work:
        assert factory.storage.exists(reports.sheet_key(reports.get(work, ids["report"])))
    delete(factory, "report", ids["report"])
    assert purge_in_turn(factory) == 1
    assert there(factory) == {stranger}
    assert rows_left(factory) == {}


def test_in_whatever_order_all_steps_go_in_the_end(any_factory: Factory) -> None:
    factory = dataclasses.replace(any_factory, storage=MemoryStorage())
    for first in ("job", "dataset"):
        ids = furnish(factory)
        for noun in sorted(ids, key=lambda name: name != first):
            delete(factory, noun, ids[noun])
        purge(factory)
        assert there(factory) == set()
        assert rows_left(factory) == {}


def test_a_head_stays_with_its_dataset_when_the_job_is_deleted(any_factory: Factory) -> None:
    factory = dataclasses.replace(any_factory, storage=MemoryStorage())
    ids = furnish(factory)
    delete(factory, "job", ids["job"])
    purge(factory)
    collect(factory, older_than_seconds=0)
    heads = [key for key in there(factory) if key.endswith("head.tar")]
    assert len(heads) == 1
    with factory.work() as work:
        few = factories.make_annotation_set(work)
        wish = factories.parse({"kind": "evaluate", "dataset_id": ids["dataset"], "evaluation_set_id": few.id})
        assert jobs.create(work, wish).created


class FailsAt:
    """A store whose k-th call fails, before or after it took effect."""

    def __init__(self, inner: MemoryStorage, k: int, *, after: bool) -> None:
        self._inner, self._left, self._after = inner, k, after
        self.failed = False

    def __getattr__(self, name: str) -> object:
        call = getattr(self._inner, name)
        if name not in {"delete", "list"}:
            return call

        def counted(*arguments: object) -> object:
            self._left -= 1
            fails = self._left == 0
            self.failed = self.failed or fails
            if fails and not self._after:
                raise StorageError("it failed")
            result = call(*arguments)
            if fails:
                raise StorageError("it failed after all")
            return result

        return counted


@pytest.mark.parametrize("after", [False, True])
def test_a_purge_that_fails_anywhere_is_taken_up_again(factory: Factory, after: bool) -> None:
    for k in range(1, 60):
        storage = MemoryStorage()
        whole = dataclasses.replace(factory, storage=storage)
        ids = furnish(whole)
        for noun, row_id in ids.items():
            delete(whole, noun, row_id)
        failing = FailsAt(storage, k, after=after)
        try:
            purge_in_turn(dataclasses.replace(factory, storage=failing))  # type: ignore[arg-type]
        except StorageError:
            assert failing.failed
            with whole.read() as work:
                for noun, row_id in ids.items():
                    with pytest.raises(Gone):
                        MODULES[noun].get(work, row_id)
        else:
            assert not failing.failed
        purge_in_turn(whole)
        assert there(whole) == set()
        assert rows_left(whole) == {}
        if not failing.failed:
            return
    raise AssertionError("the purge never came to its end")


def test_a_purge_that_is_stopped_anywhere_is_taken_up_again(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "BATCH", 2)
    for number in range(1, 60):
        made = dataclasses.replace(factory, storage=MemoryStorage())
        ids = furnish(made)
        for noun, row_id in ids.items():
            delete(made, noun, row_id)
        asked = iter(range(number))
        stopped = [False]

        def stop(asked: Iterator[int] = asked, stopped: list[bool] = stopped) -> bool:
            stopped[0] = stopped[0] or next(asked, None) is None
            return stopped[0]

        purge_in_turn(made, stop=stop)
        purge_in_turn(made)
        assert there(made) == set()
        assert rows_left(made) == {}
        if not stopped[0]:
            return
    raise AssertionError("the purge never came to its end")


def test_one_process_purges_at_a_time(any_factory: Factory) -> None:
    factory = dataclasses.replace(any_factory, storage=MemoryStorage())
    ids = furnish(factory)
    delete(factory, "student", ids["student"])
    with factory.work() as work:
        token = duties.take(work, purging.DUTY, owner="other")
    assert purge_in_turn(factory) == 0
    with factory.work() as work:
        assert token is not None
        duties.finish(work, purging.DUTY, token)
    assert purge_in_turn(factory) == 1


def expire(factory: Factory, dataset_id: str) -> None:
    with factory.work() as work:
        gone = update(DatasetExport).where(DatasetExport.dataset_id == dataset_id)
        work.session.execute(gone.values(expires_at=database_now(-1)))


def test_an_export_lives_for_its_time(any_factory: Factory) -> None:
    factory = dataclasses.replace(any_factory, storage=MemoryStorage())
    dataset_id = furnish(factory)["dataset"]
    with factory.read() as work:
        row = datasets.get_export(work, dataset_id, "coco")
        key = datasets.export_key(work, row)
        assert row.expires_at is not None
        assert abs(row.expires_at - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)
    assert purge_in_turn(factory) == 0
    expire(factory, dataset_id)
    for present in (True, False):
        assert factory.storage.exists(key) is present
        with factory.read() as work, pytest.raises(Gone, match='"kind": "export"'):
            datasets.export_key(work, datasets.get_export(work, dataset_id, "coco"))
        purge_in_turn(factory)
    assert sum(key.startswith("datasets/") for key in there(factory)) == 4  # three shards and the manifest


def test_an_expired_export_is_made_again_by_a_job(any_factory: Factory) -> None:
    factory = dataclasses.replace(any_factory, storage=MemoryStorage())
    dataset_id = furnish(factory)["dataset"]
    expire(factory, dataset_id)
    purge_in_turn(factory)
    with factory.work() as work:
        job = jobs.create(work, factories.parse({"kind": "export", "dataset_id": dataset_id})).job
    step = factories.must_claim(factory)
    assert (step.kind, step.queue, step.job_result["dataset_id"]) == ("export_dataset", "cpu", dataset_id)
    key = object_keys.dataset_export(dataset_id, "coco", step.token)
    put(factory, key)
    with factory.work() as work:
        datasets.record_export(work, dataset_id, NewExport("coco", key, "0" * 64, 1, {}))
    factories.succeed(factory, step)
    assert factories.job_now(factory, job.id).state == "succeeded"
    assert purge_in_turn(factory) == 0
    with factory.read() as work:
        assert datasets.export_key(work, datasets.get_export(work, dataset_id, "coco")) == key


def test_audit_entries_are_kept_until_the_operator_says_how_long(any_factory: Factory) -> None:
    now = datetime.now(UTC)
    ages = {"new": timedelta(hours=1), "young": timedelta(days=6, hours=23), "old": timedelta(days=7, hours=1)}
    with any_factory.work() as work:
        for number in range(purging.BATCH + 1):
            entry = first_id("aud", now - timedelta(days=8, seconds=number))
            work.session.add(AuditEntry(id=entry, actor="k", operation="o", outcome="done"))
        for name, age in ages.items():
            work.session.add(AuditEntry(id=first_id("aud", now - age), actor=name, operation="o", outcome="done"))
    assert purge_in_turn(any_factory) == 0
    week = any_factory.settings.model_copy(update={"audit_ttl_seconds": 7 * 86_400.0})
    purge_in_turn(dataclasses.replace(any_factory, settings=week))
    with any_factory.read() as work:
        assert sorted(work.session.scalars(select(AuditEntry.actor))) == ["new", "young"]


def test_an_export_that_is_made_again_while_the_old_one_goes_stays(factory: Factory) -> None:
    storage = MemoryStorage()
    made = dataclasses.replace(factory, storage=storage)
    dataset_id = furnish(made)["dataset"]
    expire(made, dataset_id)
    key = object_keys.dataset_export(dataset_id, "coco", 99)

    def again() -> None:
        storage.put_stream(key, [b"new"])
        with made.work() as work:
            datasets.record_export(work, dataset_id, NewExport("coco", key, "0" * 64, 3, {}))

    purge_in_turn(dataclasses.replace(made, storage=Meanwhile(storage, again)))  # type: ignore[arg-type]
    with made.read() as work:
        assert datasets.export_key(work, datasets.get_export(work, dataset_id, "coco")) == key
    assert storage.exists(key)


class Meanwhile:
    """A store in which something happens right after an object was removed."""

    def __init__(self, inner: MemoryStorage, then: Callable[[], None]) -> None:
        self._inner, self._then = inner, then

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def delete(self, key: str) -> None:
        self._inner.delete(key)
        self._then()


def test_who_reads_while_it_is_purged_reads_on(factory: Factory) -> None:
    """A folder keeps an open file's bytes; nobody gets half a file for a whole one."""
    ids = furnish(factory)
    with factory.read() as work:
        (shard, *_) = datasets.shards(work, ids["dataset"])
    content = bytes(range(256)) * 40_000
    factory.storage.put_stream(shard.key, [content])
    reading = factory.storage.get_stream(shard.key)
    begin = next(reading)
    delete(factory, "dataset", ids["dataset"])
    purge_in_turn(factory)
    assert not factory.storage.exists(shard.key)
    assert begin + b"".join(reading) == content


def test_a_pool_that_was_open_and_a_generator_that_failed_go_too(any_factory: Factory) -> None:
    factory = dataclasses.replace(any_factory, storage=MemoryStorage())
    with factory.work() as work:
        pool = image_pools.create(work, "open")
        job = jobs.create(work, factories.train_spec(work)).job
        jobs.cancel(work, job.id)
        generator = generators.find(work, "new-generator")
        assert generator is not None
    for noun, row_id in (("image pool", pool.id), ("generator", generator.id), ("job", job.id)):
        delete(factory, noun, row_id)
    assert purge_in_turn(factory) == 3
    with factory.read() as work:
        assert work.session.get_one(Job, job.id).purged_at is not None
        assert work.session.scalars(select(Dataset)).all() == []
