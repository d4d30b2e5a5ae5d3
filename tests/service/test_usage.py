"""What is stored is counted from the rows, and held against the limits before more comes."""

from __future__ import annotations

import dataclasses
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Unpack

import pytest
from sqlalchemy import update

from service import annotation_sets, api_keys, datasets, generators, image_pools, jobs, usage
from service.api_keys import Limits
from service.bootstrap import Factory
from service.caller import Action
from service.clock import database_now
from service.errors import QuotaExceeded, StorageQuotaExceeded
from service.tables import AnnotationSet, DatasetExport
from tests import factories
from tests.fakes import MemoryStorage
from tests.service.test_deletion import delete
from tests.service.test_purging import furnish


def limited(factory: Factory, **limits: Any) -> Factory:
    """The same factory with other limits and an empty store."""
    return dataclasses.replace(factory, storage=MemoryStorage(), settings=factory.settings.model_copy(update=limits))


def with_key(factory: Factory, name: str, **limits: Unpack[Limits]) -> Factory:
    """The same factory as the holder of a new key sees it."""
    with factory.work() as work:
        row = api_keys.create(work, name, "write", **limits).row
    return factory.on_behalf(Action(api_keys.caller(row), "create_job", None, None, None))


def key_id(factory: Factory) -> str:
    assert factory.action is not None
    return factory.action.caller.key_id


def part(factory: Factory) -> usage.KeyUsage:
    """What the key of this factory uses."""
    with factory.read() as work:
        found = usage.read(work).key
    assert found is not None
    return found


def test_every_noun_is_counted_until_it_is_deleted(any_factory: Factory) -> None:
    factory = limited(any_factory)
    ids = furnish(factory)
    with factory.work() as work:
        found = usage.read(work).num_bytes
        assert found == {
            "image_pools": len(b"part 0") + len(b"part 1"),
            "annotation_sets": len(b"a tar"),
            "generators": 0,
            "datasets": 3,
            "exports": 1,
            "students": 5,
        }
        assert usage.read(work).total_bytes == 26
        work.session.execute(update(DatasetExport).values(expires_at=database_now(-1)))
    for noun, name in (("image pool", "image_pools"), ("annotation set", "annotation_sets"), ("student", "students")):
        delete(factory, noun, ids[noun])
        found[name] = 0
    with factory.read() as work:
        assert usage.read(work).num_bytes == found | {"exports": 0}
    delete(factory, "dataset", ids["dataset"])
    with factory.read() as work:
        assert usage.read(work).total_bytes == 0


def test_nothing_is_stored_beyond_the_quota(any_factory: Factory) -> None:
    factory = limited(any_factory, max_stored_bytes=20)
    with factory.work() as work:
        first = factories.make_annotation_set(work, content=b"x" * 15)
        pool = image_pools.create(work, "open")
    stored = set(factory.storage.list(""))
    with (
        factory.work() as work,
        pytest.raises(StorageQuotaExceeded, match=r"^This workspace has 15 bytes .* 6 more .* 20 are allowed"),
    ):
        factories.make_annotation_set(work, content=b"x" * 6)
    with factory.work() as work, pytest.raises(StorageQuotaExceeded):
        image_pools.add_part(work, pool.id, io.BytesIO(b"x" * 6), num_images=1, image_height=8, image_width=8)
    assert set(factory.storage.list("")) == stored
    with factory.work() as work:
        image_pools.add_part(work, pool.id, io.BytesIO(b"x" * 5), num_images=1, image_height=8, image_width=8)
        assert usage.read(work).total_bytes == 20
        wish = factories.label_spec(work, annotation_set_id=first.id)
        with pytest.raises(StorageQuotaExceeded):
            jobs.create(work, wish)
        annotation_sets.delete(work, first.id)
        second = factories.make_annotation_set(work, content=b"x" * 10)
        assert jobs.create(work, factories.label_spec(work, annotation_set_id=second.id)).created


def test_the_same_part_again_is_no_more(factory: Factory) -> None:
    made = limited(factory, max_stored_bytes=10)
    with made.work() as work:
        pool = image_pools.create(work, "open")
    for _ in range(2):
        with made.work() as work:
            image_pools.add_part(work, pool.id, io.BytesIO(b"x" * 10), num_images=1, image_height=8, image_width=8)


def test_only_so_many_jobs_go_on_at_a_time(any_factory: Factory) -> None:
    factory = limited(any_factory, max_active_jobs=2)
    with factory.work() as work:
        wish = factories.label_spec(work)
        first = jobs.create(work, wish, idempotency_key="once").job
        jobs.create(work, wish)
        with pytest.raises(QuotaExceeded, match=r"^This workspace has 2 jobs going on, and 2 may"):
            jobs.create(work, wish)
        assert not jobs.create(work, wish, idempotency_key="once").created  # the answer to a request that was taken
        jobs.cancel(work, first.id)
        assert jobs.create(work, wish).created


def test_a_keys_part_is_what_it_brought_and_what_its_jobs_made(any_factory: Factory) -> None:
    factory = limited(any_factory)
    mine, theirs = with_key(factory, "mine", max_stored_bytes=10**9, max_active_jobs=3), with_key(factory, "theirs")
    ids = furnish(mine)
    with mine.work() as work:
        job = jobs.create(work, factories.train_spec(work)).job
        generators.get(work, job.result["generator_id"]).num_bytes = 100
        open_pool = image_pools.create(work, "open")
    with theirs.work() as work:
        factories.make_annotation_set(work, content=b"x" * 7)
        image_pools.add_part(work, open_pool.id, io.BytesIO(b"x" * 8), num_images=1, image_height=8, image_width=8)
    expected = {"image_pools": 18, "annotation_sets": 5, "generators": 100, "datasets": 3, "exports": 1, "students": 5}
    assert part(mine) == usage.KeyUsage(key_id(mine), "mine", expected, 1, 10**9, 3)
    assert part(theirs).num_bytes == dict.fromkeys(expected, 0) | {"annotation_sets": 7, "image_pools": 8}
    assert (part(theirs).num_active_jobs, part(theirs).max_bytes, part(theirs).max_active_jobs) == (0, None, None)
    with factory.read() as work:
        found = usage.read(work)
        assert (found.total_bytes, found.num_active_jobs, found.key) == (132 + 15, 1, None)
    with theirs.work() as work:
        jobs.cancel(work, job.id)
    for noun in ("dataset", "annotation set"):
        delete(factory, noun, ids[noun])
    assert part(mine).num_bytes == expected | {"annotation_sets": 0, "datasets": 0, "exports": 0}
    assert part(mine).num_active_jobs == 0


def test_a_key_stores_no_more_than_it_may(any_factory: Factory) -> None:
    factory = limited(any_factory, max_stored_bytes=100)
    mine, theirs = with_key(factory, "nightly", max_stored_bytes=20), with_key(factory, "theirs")
    with mine.work() as work:
        first = factories.make_annotation_set(work, content=b"x" * 15)
        pool = image_pools.create(work, "open")
    with theirs.work() as work:
        factories.make_annotation_set(work, content=b"x" * 30)
    stored = set(factory.storage.list(""))
    told = r"^The key nightly has 15 bytes stored, 6 more would come, and 20 are allowed"
    with mine.work() as work, pytest.raises(StorageQuotaExceeded, match=told):
        factories.make_annotation_set(work, content=b"x" * 6)
    with mine.work() as work, pytest.raises(StorageQuotaExceeded, match=told):
        image_pools.add_part(work, pool.id, io.BytesIO(b"x" * 6), num_images=1, image_height=8, image_width=8)
    assert set(factory.storage.list("")) == stored
    with mine.work() as work:
        image_pools.add_part(work, pool.id, io.BytesIO(b"x" * 5), num_images=1, image_height=8, image_width=8)
        wish = factories.label_spec(work, annotation_set_id=first.id)
        with pytest.raises(StorageQuotaExceeded, match=r"^The key nightly has 20 bytes .* 0 more"):
            jobs.create(work, wish)
    with theirs.work() as work:
        assert jobs.create(work, wish).created
        with pytest.raises(StorageQuotaExceeded, match=r"^This workspace has 50 bytes .* 51 more .* 100 are allowed"):
            factories.make_annotation_set(work, content=b"x" * 51)
        annotation_sets.get(work, first.id)  # of the workspace: whoever may delete, may delete it
    with factory.work() as work:
        api_keys.change(work, key_id(mine), max_stored_bytes=26)
    with mine.work() as work:
        factories.make_annotation_set(work, content=b"x" * 6)  # the new limit holds at once
        with pytest.raises(StorageQuotaExceeded, match=r"^The key nightly has 26 bytes .* 26 are allowed"):
            jobs.create(work, wish)
    with factory.work() as work:
        api_keys.change(work, key_id(mine), max_stored_bytes=None)
    with mine.work() as work:
        assert jobs.create(work, wish).created


def test_only_so_many_jobs_of_a_key_go_on_at_a_time(any_factory: Factory) -> None:
    factory = limited(any_factory)
    mine, theirs = with_key(factory, "nightly", max_active_jobs=1), with_key(factory, "theirs")
    told = r"^The key nightly has 1 job going on, and 1 may at a time"
    with mine.work() as work:
        wish = factories.label_spec(work)
        first = jobs.create(work, wish, idempotency_key="once").job
        with pytest.raises(QuotaExceeded, match=told):
            jobs.create(work, wish)
        assert not jobs.create(work, wish, idempotency_key="once").created
    with theirs.work() as work:
        jobs.create(work, wish)
        jobs.cancel(work, first.id)
    with mine.work() as work:
        second = jobs.create(work, wish).job
    for factory in (mine, theirs):  # whoever retries it: it goes on beside the other ones of its key
        with pytest.raises(QuotaExceeded, match=told), factory.work() as work:
            jobs.retry(work, first.id)
    with mine.work() as work:
        jobs.cancel(work, second.id)
    with theirs.work() as work:
        assert jobs.retry(work, first.id).state == "running"
    assert (part(mine).num_active_jobs, part(theirs).num_active_jobs) == (1, 1)


def test_retries_count_among_the_jobs_of_a_workspace(factory: Factory) -> None:
    factory = limited(factory, max_active_jobs=1)
    first = factories.make_job(factory)
    with factory.work() as work:
        jobs.cancel(work, first.id)
    factories.make_job(factory)
    with pytest.raises(QuotaExceeded, match=r"^This workspace has 1 job"), factory.work() as work:
        jobs.retry(work, first.id)
    assert factories.job_now(factory, first.id).state == "cancelled"


def test_on_sqlite_requests_of_one_moment_come_one_after_the_other(factory: Factory) -> None:
    mine = with_key(factory, "nightly", max_active_jobs=3)
    with factory.work() as work:
        wish = factories.label_spec(work)

    def ask(_: int) -> bool:
        try:
            with mine.work() as work:
                return jobs.create(work, wish).created
        except QuotaExceeded:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(12))) == 3


def test_rows_of_an_older_release_count_nothing(factory: Factory) -> None:
    with factory.work() as work:
        factories.make_annotation_set(work)
        work.session.execute(update(AnnotationSet).values(num_bytes=0))
        assert usage.read(work).total_bytes == 0
        assert datasets.list_page(work).items == []
