"""Datasets: opened by their job, filled shard by shard, sealed once, then read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import and_, func, insert, or_, select
from sqlalchemy import delete as remove_rows

from service import deletion, tallies
from service.clock import read_clock
from service.errors import BadRequest, Conflict, Gone, NotFound
from service.ids import new_id
from service.job_spec import LabelSpec, parse
from service.lookup import must_find
from service.paging import Page, newest_first
from service.tables import AnnotationSet, Dataset, DatasetExport, DatasetImage, DatasetShard, Job
from service.unit_of_work import Work

ImageSort = Literal["index", "uncertainty", "certainty"]


@dataclass(frozen=True)
class NewShard:
    """A stored shard."""

    index: int
    """`shard_index` of the step's params."""
    key: str
    """Its tar in the object store."""
    sha256: str
    """Digest of the tar."""
    num_bytes: int
    """Length of the tar."""
    num_images: int
    """Images in it."""
    pool_kind: Literal["synthesized", "encoded"]
    """Where its images come from."""


@dataclass(frozen=True)
class NewImage:
    """One image of a shard and where its members' bytes lie in the tar."""

    index: int
    """Place in the dataset: `first_index` of the step's params plus its place in the shard."""
    name: str
    """The sample's key in the tar."""
    uncertainty: float
    """Mean disagreement of the head's members on the image's most uncertain pixels."""
    class_pixels: list[int]
    """Pixels of each class, in class order."""
    image_offset: int
    """Where the PNG begins."""
    image_bytes: int
    """Length of the PNG."""
    label_offset: int
    """Where the label map's PNG begins."""
    label_bytes: int
    """Length of the label map's PNG."""


@dataclass(frozen=True)
class NewExport:
    """A stored export."""

    format: Literal["coco"]
    """Which format."""
    key: str
    """Its zip in the object store."""
    sha256: str
    """Digest of the zip."""
    num_bytes: int
    """Length of the zip."""
    validation: dict[str, Any]
    """The validator's report."""


def open_for_job(work: Work, job: Job) -> Dataset:
    """The dataset that this job fills, made at the first call; the caller holds the job's lock."""
    known = work.session.scalars(select(Dataset).where(Dataset.job_id == job.id)).one_or_none()
    if known is not None:
        return known
    spec = parse(job.spec)
    assert isinstance(spec, LabelSpec)
    few = work.session.get_one(AnnotationSet, spec.annotation_set_id)
    row = Dataset(
        id=new_id("ds"),
        workspace_id=job.workspace_id,
        job_id=job.id,
        name=job.name,
        state="building",
        num_images=0,
        classes=few.classes,
        image_height=few.image_height,
        image_width=few.image_width,
        card={},
        statistics={},
    )
    work.session.add(row)
    job.result = {**job.result, "dataset_id": row.id}
    work.session.flush()
    return row


def record_shard(work: Work, dataset_id: str, shard: NewShard, images: Sequence[NewImage]) -> None:
    """Record a stored shard and its images, replacing an earlier try; part of the step's transaction.

    Raises NotFound, Conflict when the dataset is sealed.
    """
    require_building(get(work, dataset_id))
    at_shard = (DatasetImage.dataset_id == dataset_id, DatasetImage.shard_index == shard.index)
    work.session.execute(remove_rows(DatasetImage).where(*at_shard))
    work.session.execute(
        remove_rows(DatasetShard).where(DatasetShard.dataset_id == dataset_id, DatasetShard.index == shard.index)
    )
    work.session.execute(insert(DatasetShard), [{"dataset_id": dataset_id, **asdict(shard)}])
    rows = [{"dataset_id": dataset_id, "shard_index": shard.index, **asdict(image)} for image in images]
    if rows:
        work.session.execute(insert(DatasetImage), rows)
    tallies.images_labelled(work, shard.pool_kind, shard.num_images)


def require_building(row: Dataset) -> None:
    """Raises Conflict when the dataset is sealed."""
    if row.state != "building":
        raise Conflict(f"The dataset {row.id} is sealed and never changes.")


def get(work: Work, dataset_id: str, *, deleted: bool = False) -> Dataset:
    """One dataset; `deleted` finds the row of a deleted one too. Raises NotFound, Gone."""
    return must_find(work, Dataset, dataset_id, "dataset", deleted=deleted)


def list_page(work: Work, *, state: str | None = None, after: str | None = None, limit: int = 50) -> Page[Dataset]:
    """Datasets, newest first."""
    query = select(Dataset).where(Dataset.deleted_at.is_(None))
    if state is not None:
        query = query.where(Dataset.state == state)
    return newest_first(work, query, Dataset.id, after=after, limit=limit)


def delete(work: Work, dataset_id: str) -> None:
    """Delete a dataset; its card stays for the students that came from it. Raises NotFound, Gone, Conflict."""
    deletion.delete(work, get(work, dataset_id))


def shards(work: Work, dataset_id: str) -> list[DatasetShard]:
    """Shards of a dataset by index."""
    query = select(DatasetShard).where(DatasetShard.dataset_id == dataset_id)
    return list(work.session.scalars(query.order_by(DatasetShard.index)))


def get_shard(work: Work, dataset_id: str, index: int) -> DatasetShard:
    """One shard. Raises NotFound."""
    row = work.session.get(DatasetShard, (dataset_id, index)) if 0 <= index < 2**31 else None
    if row is None:
        raise NotFound(f"The dataset {dataset_id} has no shard {index}.")
    return row


def list_images(
    work: Work,
    dataset_id: str,
    *,
    sort: ImageSort = "index",
    kept: bool | None = None,
    after: str | None = None,
    limit: int = 50,
) -> Page[DatasetImage]:
    """Images by index, or the most (or least) uncertain first; works while the dataset grows. Raises BadRequest."""
    query = select(DatasetImage).where(DatasetImage.dataset_id == dataset_id)
    if kept is not None:
        query = query.where(DatasetImage.kept.is_(kept))
    if sort == "index":
        if after is not None:
            query = query.where(DatasetImage.index > _cursor_number(after))
        query = query.order_by(DatasetImage.index)
    else:
        query = _by_uncertainty(query, after, falling=sort == "uncertainty")
    rows = list(work.session.scalars(query.limit(limit + 1)))
    items = rows[:limit]
    if len(rows) <= limit:
        return Page(items, None)
    last = items[-1]
    return Page(items, str(last.index) if sort == "index" else f"{last.uncertainty!r}:{last.index}")


def _by_uncertainty(query: Any, after: str | None, *, falling: bool) -> Any:
    value, index = DatasetImage.uncertainty, DatasetImage.index
    if after is not None:
        text, _, number = after.partition(":")
        last = _cursor_value(text)
        beyond = value < last if falling else value > last
        query = query.where(or_(beyond, and_(value == last, index > _cursor_number(number))))
    return query.order_by(value.desc() if falling else value, index)


def _cursor_value(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadRequest("The cursor is not one of this list.")
    return value


def _cursor_number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise BadRequest("The cursor is not one of this list.")
    return int(text)


def newest_images(work: Work, dataset_id: str, *, limit: int) -> list[DatasetImage]:
    """The last images by index: while shards arrive, those that have just come."""
    query = select(DatasetImage).where(DatasetImage.dataset_id == dataset_id)
    return list(work.session.scalars(query.order_by(DatasetImage.index.desc()).limit(limit)))


def get_image(work: Work, dataset_id: str, index: int) -> DatasetImage:
    """One image's row. Raises NotFound."""
    row = work.session.get(DatasetImage, (dataset_id, index)) if 0 <= index < 2**31 else None
    if row is None:
        raise NotFound(f"The dataset {dataset_id} has no image {index}.")
    return row


def read_image(work: Work, image: DatasetImage) -> bytes:
    """The PNG of an image, read by its byte range alone."""
    key = get_shard(work, image.dataset_id, image.shard_index).key
    return work.storage.get_range(key, image.image_offset, image.image_bytes)


def read_label(work: Work, image: DatasetImage) -> bytes:
    """The PNG of an image's label map, read by its byte range alone."""
    key = get_shard(work, image.dataset_id, image.shard_index).key
    return work.storage.get_range(key, image.label_offset, image.label_bytes)


def read_manifest(work: Work, row: Dataset) -> Iterator[bytes]:
    """The manifest of a sealed dataset. Raises Conflict before that."""
    if row.manifest_key is None:
        raise Conflict(f"The dataset {row.id} is still being built; its manifest comes when it is sealed.")
    return work.storage.get_stream(row.manifest_key)


def num_recorded(work: Work, dataset_id: str) -> int:
    """Images recorded so far, also while the dataset is being built."""
    query = select(func.sum(DatasetShard.num_images)).where(DatasetShard.dataset_id == dataset_id)
    return work.session.execute(query).scalar_one() or 0


def record_export(work: Work, dataset_id: str, new: NewExport) -> DatasetExport:
    """Record a stored export, replacing an earlier one of that format; part of the step's transaction."""
    get(work, dataset_id)
    now = read_clock(work.session)
    times = {"created_at": now, "expires_at": now + timedelta(seconds=work.settings.export_ttl_seconds)}
    row = work.session.merge(DatasetExport(dataset_id=dataset_id, **asdict(new), **times))
    work.session.flush()
    return row


def export_key(work: Work, row: DatasetExport) -> str:
    """Object key of an export's zip. Raises Gone when its time is over."""
    if row.key is None or has_expired(work, row):
        raise Gone(
            f"The export of the dataset {row.dataset_id} as {row.format} has expired; "
            f'a job {{"kind": "export", "dataset_id": "{row.dataset_id}"}} makes it again.'
        )
    return row.key


def has_expired(work: Work, row: DatasetExport) -> bool:
    """Whether its time is over, be its object still there or not."""
    return row.expires_at is not None and row.expires_at <= read_clock(work.session)


def get_export(work: Work, dataset_id: str, export_format: str) -> DatasetExport:
    """An export of a dataset, expired or not. Raises NotFound."""
    row = work.session.get(DatasetExport, (dataset_id, export_format))
    if row is None:
        raise NotFound(f"The dataset {dataset_id} has no export as {export_format[:40]} (yet).")
    return row


def exports(work: Work, dataset_id: str) -> list[DatasetExport]:
    """All exports of a dataset."""
    query = select(DatasetExport).where(DatasetExport.dataset_id == dataset_id).order_by(DatasetExport.format)
    return list(work.session.scalars(query))
