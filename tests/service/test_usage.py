"""What is stored is counted from the rows, and held against the limits before more comes."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from sqlalchemy import update

from service import annotation_sets, datasets, image_pools, jobs, usage
from service.bootstrap import Factory
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
    with factory.work() as work, pytest.raises(StorageQuotaExceeded, match=r"^15 bytes .* 6 more .* 20 are allowed"):
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
        with pytest.raises(QuotaExceeded, match="2 jobs go on, and 2 may"):
            jobs.create(work, wish)
        assert not jobs.create(work, wish, idempotency_key="once").created  # the answer to a request that was taken
        jobs.cancel(work, first.id)
        assert jobs.create(work, wish).created


def test_rows_of_an_older_release_count_nothing(factory: Factory) -> None:
    with factory.work() as work:
        factories.make_annotation_set(work)
        work.session.execute(update(AnnotationSet).values(num_bytes=0))
        assert usage.read(work).total_bytes == 0
        assert datasets.list_page(work).items == []
