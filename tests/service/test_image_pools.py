"""Image pools: parts, sealing and where a range of images lies."""

from __future__ import annotations

import io

import pytest

from service import annotation_sets, image_pools
from service.bootstrap import Factory, build_factory
from service.errors import Conflict, Invalid, NotFound, StorageFull
from service.image_pools import PoolSlice
from tests.factories import make_annotation_set, make_pool
from tests.fakes import MemoryStorage


def add(factory: Factory, pool_id: str, content: bytes = b"tar", *, number: int = 3, size: int = 64) -> str:
    with factory.work() as work:
        part = image_pools.add_part(
            work, pool_id, io.BytesIO(content), num_images=number, image_height=size, image_width=size
        )
        return part.key


def test_parts_add_up_and_the_same_part_counts_once(any_factory: Factory) -> None:
    with any_factory.work() as work:
        pool_id = image_pools.create(work, "p").id
    first = add(any_factory, pool_id, b"one")
    assert add(any_factory, pool_id, b"one") == first
    add(any_factory, pool_id, b"two", number=4)
    with any_factory.read() as work:
        pool = image_pools.get(work, pool_id)
        assert (pool.num_images, pool.image_height) == (7, 64)
        assert [part.index for part in image_pools.parts(work, pool_id)] == [0, 1]
        assert b"".join(work.storage.get_stream(first)) == b"one"


def test_what_a_pool_refuses(factory: Factory) -> None:
    with factory.work() as work:
        pool_id = image_pools.create(work, "p").id
    with pytest.raises(Conflict, match="empty"), factory.work() as work:
        image_pools.seal(work, pool_id)
    add(factory, pool_id)
    with pytest.raises(Invalid, match="one size"):
        add(factory, pool_id, b"other", size=32)
    with pytest.raises(Invalid, match="no images"):
        add(factory, pool_id, b"none", number=0)
    with factory.work() as work:
        image_pools.seal(work, pool_id)
    with pytest.raises(Conflict, match="sealed"):
        add(factory, pool_id, b"late")
    with pytest.raises(NotFound):
        add(factory, "pool_none")


def test_a_range_over_several_parts(factory: Factory) -> None:
    with factory.work() as work:
        pool = make_pool(work, sizes=(10, 5, 20))
        keys = [part.key for part in image_pools.parts(work, pool.id)]
        assert image_pools.slices(work, pool.id, 8, 10) == [
            PoolSlice(keys[0], 8, 2),
            PoolSlice(keys[1], 0, 5),
            PoolSlice(keys[2], 0, 3),
        ]
        assert image_pools.slices(work, pool.id, 34, 10) == [PoolSlice(keys[2], 19, 1)]
        assert image_pools.slices(work, pool.id, 35, 10) == []


def test_an_annotation_set_is_stored_whole(factory: Factory) -> None:
    with factory.work() as work:
        row = make_annotation_set(work, b"content")
        assert b"".join(annotation_sets.read(work, row)) == b"content"
        assert annotation_sets.list_page(work).items == [row]


def test_a_full_store_leaves_no_row(factory: Factory) -> None:
    full = build_factory(factory.settings, storage=MemoryStorage(room=3))
    with pytest.raises(StorageFull), full.work() as work:
        make_annotation_set(work, b"content")
    with full.read() as work:
        assert annotation_sets.list_page(work).items == []
    full.close()
