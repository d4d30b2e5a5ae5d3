"""Image pools: unlabelled real images, appended in parts until sealed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from sqlalchemy import func, select

from service import deletion, object_keys, usage
from service.errors import Conflict, Invalid, fault
from service.ids import new_id
from service.lookup import must_find, require_present
from service.paging import Page, newest_first
from service.storage import digest_file
from service.tables import ImagePool, PoolPart
from service.unit_of_work import Work


@dataclass(frozen=True)
class PoolSlice:
    """A run of images inside one part."""

    key: str
    """The part's tar of PNGs."""
    first: int
    """Number of the first image within the tar, from 0."""
    count: int
    """How many images."""


def create(work: Work, name: str) -> ImagePool:
    """Make an empty, open pool."""
    row = ImagePool(id=new_id("pool"), name=name, state="open", num_images=0)
    work.session.add(row)
    work.session.flush()
    return row


def get(work: Work, pool_id: str, *, deleted: bool = False) -> ImagePool:
    """One pool; `deleted` finds the row of a deleted one too. Raises NotFound, Gone."""
    return must_find(work, ImagePool, pool_id, "image pool", deleted=deleted)


def list_page(work: Work, *, after: str | None = None, limit: int = 50) -> Page[ImagePool]:
    """Pools, newest first."""
    query = select(ImagePool).where(ImagePool.deleted_at.is_(None))
    return newest_first(work, query, ImagePool.id, after=after, limit=limit)


def parts(work: Work, pool_id: str) -> list[PoolPart]:
    """Parts of a pool by index."""
    return list(work.session.scalars(select(PoolPart).where(PoolPart.pool_id == pool_id).order_by(PoolPart.index)))


def add_part(
    work: Work, pool_id: str, file: BinaryIO, *, num_images: int, image_height: int, image_width: int
) -> PoolPart:
    """Store a validated tar of PNGs (a seekable file) as the pool's next part; the same part again changes nothing.

    Raises NotFound, Gone, Conflict when the pool is sealed, Invalid when the images have another size than the pool's.
    """
    content = digest_file(file)
    pool = _lock(work, pool_id)
    if pool.state != "open":
        raise Conflict(f"The image pool {pool_id} is sealed; nothing can be added.")
    if num_images < 1:
        raise Invalid("The upload holds no images.", [fault("body", "holds no images")])
    size = (image_height, image_width)
    if pool.num_images and size != (pool.image_height, pool.image_width):
        message = f"images are {image_height}x{image_width}, the pool's are {pool.image_height}x{pool.image_width}"
        raise Invalid("All images of a pool have one size.", [fault("body", message)])
    query = select(PoolPart).where(PoolPart.pool_id == pool_id, PoolPart.sha256 == content.sha256)
    known = work.session.scalars(query).one_or_none()
    if known is not None:
        return known
    usage.require_room(work, content.num_bytes)
    index = work.session.execute(select(func.count()).where(PoolPart.pool_id == pool_id)).scalar_one()
    key = object_keys.pool_part(pool_id, index, content.sha256)
    work.storage.put_stream(key, file)
    part = PoolPart(
        pool_id=pool_id,
        index=index,
        key=key,
        num_images=num_images,
        num_bytes=content.num_bytes,
        sha256=content.sha256,
    )
    work.session.add(part)
    pool.num_images += num_images
    pool.image_height, pool.image_width = size
    work.session.flush()
    return part


def seal(work: Work, pool_id: str) -> ImagePool:
    """Close the pool for good, so that jobs may use it. Raises NotFound, Conflict when it is empty."""
    pool = _lock(work, pool_id)
    if pool.num_images == 0:
        raise Conflict(f"The image pool {pool_id} is empty; add images before sealing it.")
    pool.state = "sealed"
    work.session.flush()
    return pool


def delete(work: Work, pool_id: str) -> None:
    """Delete a pool, open or sealed. Raises NotFound, Gone, Conflict while a job takes it in."""
    deletion.delete(work, get(work, pool_id))


def slices(work: Work, pool_id: str, start: int, count: int) -> list[PoolSlice]:
    """Where images start .. start + count of the pool lie, in order."""
    found: list[PoolSlice] = []
    first_of_part = 0
    for part in parts(work, pool_id):
        begin = max(start, first_of_part)
        end = min(start + count, first_of_part + part.num_images)
        if begin < end:
            found.append(PoolSlice(part.key, begin - first_of_part, end - begin))
        first_of_part += part.num_images
    return found


def _lock(work: Work, pool_id: str) -> ImagePool:
    get(work, pool_id)
    query = select(ImagePool).where(ImagePool.id == pool_id).with_for_update(key_share=True)
    pool = work.session.scalars(query, execution_options={"populate_existing": True}).one()
    require_present(pool, "image pool")
    return pool
