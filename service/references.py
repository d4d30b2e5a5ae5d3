"""Which objects the rows name: one rule for every kind of key, asked for a bounded chunk of keys at a time.

Rows of what was deleted name nothing any more, nor does an export that has expired.

A rule answers which of its keys must stay. It may say so of too many, never of too few: what it lets go is deleted once
it is old enough. Every rule looks rows up by the id inside the key, so a chunk costs a few lookups however large the
tables are.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import or_, select

from service import object_keys
from service.clock import database_now
from service.errors import NotFound
from service.object_keys import ObjectKey
from service.plan import ENDED
from service.tables import (
    AnnotationSet,
    Dataset,
    DatasetExport,
    DatasetShard,
    Event,
    Generator,
    ImagePool,
    PoolPart,
    Report,
    Step,
    Student,
)
from service.unit_of_work import Work

log = structlog.get_logger(__name__)

Rule = Callable[[Work, Sequence[ObjectKey]], set[str]]


def referenced(work: Work, keys: Sequence[ObjectKey], *, forgotten_before: datetime | None = None) -> set[str]:
    """Which of these keys (at most some hundreds) must stay.

    `forgotten_before` is for looking ahead only: checkpoints of steps that ended earlier count as forgotten already.
    """
    by_kind: dict[str, list[ObjectKey]] = defaultdict(list)
    for key in keys:
        by_kind[key.kind].append(key)
    kept: set[str] = set()
    for kind, found in by_kind.items():
        kept |= RULES[kind](work, found)
        if kind == "step_file":
            kept |= _checkpoints(work, [key for key in found if key.key not in kept], forgotten_before)
    return kept


def digests(work: Work) -> Iterator[tuple[str, str]]:
    """(key, SHA-256) of every object whose digest its row records."""
    fresh = or_(DatasetExport.expires_at.is_(None), DatasetExport.expires_at > database_now())
    queries = (
        select(PoolPart.key, PoolPart.sha256)
        .join(ImagePool, ImagePool.id == PoolPart.pool_id)
        .where(ImagePool.deleted_at.is_(None)),
        select(AnnotationSet.key, AnnotationSet.sha256).where(AnnotationSet.deleted_at.is_(None)),
        select(DatasetShard.key, DatasetShard.sha256)
        .join(Dataset, Dataset.id == DatasetShard.dataset_id)
        .where(Dataset.deleted_at.is_(None)),
        select(DatasetExport.key, DatasetExport.sha256)
        .join(Dataset, Dataset.id == DatasetExport.dataset_id)
        .where(Dataset.deleted_at.is_(None), DatasetExport.key.is_not(None), fresh),
    )
    for query in queries:
        for key, sha256 in work.session.execute(query.execution_options(yield_per=1_000)):
            yield str(key), str(sha256)
    for files in work.session.scalars(select(Student.files).where(Student.deleted_at.is_(None))):
        yield from ((str(file["key"]), str(file["sha256"])) for file in files)


def _marker(_work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    return _names(keys)


def _nobody(_work: Work, _keys: Sequence[ObjectKey]) -> set[str]:
    """No row names a probe; one that is left over is an orphan."""
    return set()


def _generator_files(work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    """A generator's row names a folder; its files and the zip beside it belong to it."""
    prefixes = {key.key: object_keys.generator_prefix(key.owner_id, key.token) for key in keys}
    query = select(Generator.key_prefix).where(
        Generator.key_prefix.in_(set(prefixes.values())), Generator.deleted_at.is_(None)
    )
    known = set(work.session.scalars(query))
    return {key for key, prefix in prefixes.items() if prefix in known}


def _pool_parts(work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    owned = (PoolPart.pool_id.in_(_owners(keys)), ImagePool.deleted_at.is_(None))
    query = select(PoolPart.key).join(ImagePool, ImagePool.id == PoolPart.pool_id)
    return set(work.session.scalars(query.where(*owned, PoolPart.key.in_(_names(keys)))))


def _annotation_sets(work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    owned = (AnnotationSet.id.in_(_owners(keys)), AnnotationSet.deleted_at.is_(None))
    known = set(work.session.scalars(select(AnnotationSet.key).where(*owned)))
    known |= {object_keys.annotation_index(key) for key in known}
    return known & _names(keys)


def _dataset_shards(work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    owned = (DatasetShard.dataset_id.in_(_owners(keys)), Dataset.deleted_at.is_(None))
    query = select(DatasetShard.key).join(Dataset, Dataset.id == DatasetShard.dataset_id)
    return set(work.session.scalars(query.where(*owned, DatasetShard.key.in_(_names(keys)))))


def _dataset_manifests(work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    """The one key that a later attempt writes again, so it stays with its dataset, sealed or not."""
    known = set(
        work.session.scalars(select(Dataset.id).where(Dataset.id.in_(_owners(keys)), Dataset.deleted_at.is_(None)))
    )
    return {key.key for key in keys if key.owner_id in known}


def _dataset_exports(work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    fresh = or_(DatasetExport.expires_at.is_(None), DatasetExport.expires_at > database_now())
    owned = (DatasetExport.dataset_id.in_(_owners(keys)), Dataset.deleted_at.is_(None), fresh)
    query = select(DatasetExport.key).join(Dataset, Dataset.id == DatasetExport.dataset_id)
    found = work.session.scalars(query.where(*owned, DatasetExport.key.in_(_names(keys))))
    return {key for key in found if key is not None}


def _student_files(work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    owned = (Student.id.in_(_owners(keys)), Student.deleted_at.is_(None))
    query = select(Student.files, Student.archive_key).where(*owned)
    known: set[str] = set()
    for files, archive_key in work.session.execute(query):
        known |= {str(file["key"]) for file in files} | {str(archive_key)}
    return known & _names(keys)


def _step_files(work: Work, keys: Sequence[ObjectKey]) -> set[str]:
    """What the running attempt wrote, what the step's output names, and the pictures of the job's page.

    The step is read before its events: a step that has ended by then has no event that is still to come.
    """
    kept: set[str] = set()
    query = select(Step.id, Step.state, Step.token, Step.output, Step.params).where(Step.id.in_(_owners(keys)))
    rows = {row.id: row for row in work.session.execute(query)}
    for key in keys:
        row = rows.get(key.owner_id)
        if row is not None and row.state == "running" and str(row.token) == key.token:
            kept.add(key.key)
    names = _names(keys) - kept
    for row in rows.values():
        kept |= names & {*_texts(row.output), *_texts(row.params)}
    picture = Event.data["key"].as_string()
    pictures = select(picture).where(Event.step_id.in_(list(rows)), Event.type == "sample", picture.in_(names - kept))
    kept |= set(work.session.scalars(pictures))
    # A job that was deleted has no events any more, but the report that it made shows a picture.
    sheet = Report.content["sheet"]["key"].as_string()
    of_steps = select(Step.job_id).where(Step.id.in_(list(rows)))
    shown = select(sheet).where(Report.job_id.in_(of_steps), Report.deleted_at.is_(None), sheet.in_(names - kept))
    return kept | set(work.session.scalars(shown))


def _checkpoints(work: Work, keys: Sequence[ObjectKey], forgotten_before: datetime | None) -> set[str]:
    """A checkpoint's manifest, which the step's row names, and the objects that the manifest names."""
    columns = (Step.id, Step.state, Step.finished_at, Step.checkpoint_key)
    query = select(*columns).where(Step.id.in_(_owners(keys)), Step.checkpoint_key.is_not(None))
    kept: set[str] = set()
    for step_id, state, finished_at, manifest_key in work.session.execute(query).all():
        if forgotten_before and state in ENDED and finished_at is not None and finished_at < forgotten_before:
            continue
        files = _manifest(work, str(manifest_key))
        kept |= {key.key for key in keys if key.owner_id == step_id and (files is None or key.key in files)}
    return kept


def _manifest(work: Work, key: str) -> set[str] | None:
    """What a checkpoint's manifest names, itself included; None where nobody can tell just now.

    A manifest that is gone was replaced by the step's worker a moment ago, or deleted after the step's success.
    """
    try:
        files = json.loads(b"".join(work.storage.get_stream(key)))
        return {key, *(str(name) for name in files.values())}
    except NotFound:
        return None
    except (ValueError, AttributeError) as error:
        log.warning("a checkpoint's manifest cannot be read; its step's objects stay", key=key, error=str(error))
        return None


def _texts(document: Any) -> Iterator[str]:
    """All texts in a JSON document."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for value in document.values():
            yield from _texts(value)
    elif isinstance(document, Sequence):
        for value in document:
            yield from _texts(value)


def _names(keys: Sequence[ObjectKey]) -> set[str]:
    return {key.key for key in keys}


def _owners(keys: Sequence[ObjectKey]) -> set[str]:
    return {key.owner_id for key in keys}


RULES: Mapping[str, Rule] = {
    "store_marker": _marker,
    "store_probe": _nobody,
    "generator_prefix": _generator_files,
    "generator_archive": _generator_files,
    "pool_part": _pool_parts,
    "annotation_set": _annotation_sets,
    "annotation_index": _annotation_sets,
    "step_file": _step_files,
    "dataset_shard": _dataset_shards,
    "dataset_manifest": _dataset_manifests,
    "dataset_export": _dataset_exports,
    "student_file": _student_files,
}
"""Kind of key -> which of them the rows name; a kind without a rule fails a test."""
