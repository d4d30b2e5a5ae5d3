"""What must be true after every fault: nothing lost, nothing doubled, nothing left over, and the same results as ever."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select, text

from service import datasets, events, generators, jobs, object_keys, sealing, steps
from service.bootstrap import Factory
from service.collector import collect
from service.tables import Event, Job, Report, Step, Student
from service.unit_of_work import Work
from tests.chaos.faults import Batch, Plan, Strike
from workers.scratch import remove_abandoned, steps_folder

ENDED = ("succeeded", "failed", "cancelled")
WHOLE = frozenset({"seal_dataset", "export_dataset", "evaluate"})
"""Steps of seconds or minutes that keep no checkpoint: they begin anew."""

Fingerprint = dict[str, str]
"""What a job left -> its digest, ids and times left out."""


def check(factory: Factory, job_ids: Iterable[str], expected: Mapping[str, Fingerprint] | None = None) -> None:
    """Everything that must hold once jobs have succeeded; `expected` is each job's undisturbed result."""
    for job_id in job_ids:
        with factory.read() as work:
            job = jobs.get(work, job_id)
            assert job.state == "succeeded", job.error
            assert_done_once(work, job_id)
            if expected is not None:
                assert fingerprint(work, job_id) == expected[job_id]
    check_objects(factory)
    check_database(factory)


def has_ended(factory: Factory, job_ids: Iterable[str]) -> bool:
    """Whether all of these jobs are in a terminal state."""
    with factory.read() as work:
        return all(jobs.get(work, job_id).state in ENDED for job_id in job_ids)


def errors(factory: Factory, job_ids: Iterable[str]) -> dict[str, Any]:
    """What the jobs that did not succeed say of it."""
    with factory.read() as work:
        found = [jobs.get(work, job_id) for job_id in job_ids]
    return {job.id: job.error or job.state for job in found if job.state != "succeeded"}


def assert_done_once(work: Work, job_id: str) -> None:
    """Every step succeeded once, tokens only grew, the job ended once and has one of each result."""
    found = list(work.session.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.id)))
    states = [event for event in found if event.type == "step.state"]
    ended = Counter(event.step_id for event in states if event.data["state"] == "succeeded")
    rows = steps.list_of_job(work, job_id)
    assert {row.state for row in rows} == {"succeeded"}
    assert ended == Counter(row.id for row in rows), "a step was committed twice or never"
    assert len({(row.kind, row.index) for row in rows}) == len(rows)
    assert [event.data["state"] for event in found if event.type == "job.state"].count("succeeded") == 1
    for table in (Student, Report):
        count = len(work.session.scalars(select(table.id).where(table.job_id == job_id)).all())
        assert count <= 1, f"{count} rows of {table.__name__}"


def fingerprint(work: Work, job_id: str) -> Fingerprint:
    """Digests of all results of a job."""
    found: Fingerprint = {}
    job = jobs.get(work, job_id)
    if "generator_id" in job.result:
        found |= _generator(work, job.result["generator_id"])
    for row in steps.list_of_job(work, job_id):
        for name in ("head_key", "baseline_key"):
            if name in (row.output or {}):
                found |= _tar(work, str((row.output or {})[name]), row.kind)
    if "dataset_id" in job.result:
        found |= _dataset(work, job.result["dataset_id"])
    for student in work.session.scalars(select(Student).where(Student.job_id == job_id)):
        weights = next(file for file in student.files if file["name"] == "model.safetensors")
        found["student"] = _sha(_read(work, weights["key"]))
        assert found["student"] == weights["sha256"]
    for report in work.session.scalars(select(Report).where(Report.job_id == job_id)):
        rows = [{name: value for name, value in row.items() if "seconds" not in name} for row in report.content["rows"]]
        found["report"] = _sha(json.dumps([rows, report.content["verdict"]], sort_keys=True).encode())
    return found


def _generator(work: Work, generator_id: str) -> Fingerprint:
    row = generators.get(work, generator_id)
    keys = [key for key in work.storage.list(row.key_prefix) if key.endswith(".safetensors")]
    assert keys
    return {key.removeprefix(row.key_prefix): _sha(_read(work, key)) for key in keys}


def _tar(work: Work, key: str, kind: str) -> Fingerprint:
    with tarfile.open(fileobj=io.BytesIO(_read(work, key))) as tar:
        names = [name for name in tar.getnames() if name.endswith(".safetensors")]
        return {f"{kind}/{name}": _sha(tar.extractfile(name).read()) for name in names}  # type: ignore[union-attr]


def _dataset(work: Work, dataset_id: str) -> Fingerprint:
    found: Fingerprint = {}
    for shard in datasets.shards(work, dataset_id):
        found[f"shard {shard.index}"] = _sha(_read(work, shard.key))
        assert found[f"shard {shard.index}"] == shard.sha256
    found["dropped"] = _sha(json.dumps(sealing.dropped_names(work, dataset_id)).encode())
    for export in datasets.exports(work, dataset_id):
        data = _read(work, export.key)
        assert _sha(data) == export.sha256
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found |= {name: _member(archive.read(name)) for name in archive.namelist() if not name.endswith(".md")}
    return found


def _member(data: bytes) -> str:
    """Digest of a file of an export, without its `info`, which names ids."""
    if data.startswith(b"{"):
        document = json.loads(data)
        document.pop("info", None)
        data = json.dumps(document, sort_keys=True).encode()
    return _sha(data)


def _read(work: Work, key: str) -> bytes:
    return b"".join(work.storage.get_stream(key))


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def check_objects(factory: Factory) -> None:
    """Every row has its object, and after a collection every object its row."""
    with factory.read() as work:
        named = set(_named(work))
    stored = _stored(factory)
    assert named <= stored, f"rows without their objects: {named - stored}"
    collect(factory, older_than_seconds=-1)
    left = _stored(factory)
    assert named <= left, f"the collection took {named - left}"
    orphans = [key for key in left - named if not _is_allowed(key)]
    assert not orphans, f"orphans after a collection: {orphans}"
    if factory.settings.storage_url.startswith("s3:"):
        return
    folder = factory.settings.data_dir / "objects"
    assert not list(folder.rglob("*#*")), "unfinished objects"
    _age_scratch(factory)
    remove_abandoned(factory)
    assert not list(steps_folder(factory.settings).glob("*")), "scratch folders"


def _stored(factory: Factory) -> set[str]:
    return {item.key for batch in factory.storage.scan() for item in batch}


def _is_allowed(key: str) -> bool:
    """What no row names by its whole key: markers, folders of generators, indexes, manifests."""
    kind = object_keys.parse(key)
    return kind is not None and kind.kind in (
        "store_marker",
        "generator_prefix",
        "generator_archive",
        "annotation_index",
    )


def _named(work: Work) -> Iterable[str]:
    """Keys that rows name, read from the rows and not by the collector's rules."""
    for student in work.session.scalars(select(Student)):
        yield from (file["key"] for file in student.files)
        yield str(student.archive_key)
    for event in work.session.scalars(select(Event).where(Event.type == "sample")):
        yield event.data["key"]
    for step in work.session.scalars(select(Step).where(Step.state == "succeeded")):
        yield from (str(value) for name, value in (step.output or {}).items() if name.endswith("key"))
    for job in work.session.scalars(select(Job)):
        dataset_id = job.result.get("dataset_id")
        if dataset_id is not None and datasets.get(work, dataset_id).state == "sealed":
            yield from (shard.key for shard in datasets.shards(work, dataset_id))
            yield from (export.key for export in datasets.exports(work, dataset_id))
            yield object_keys.dataset_manifest(dataset_id)
    for column in ("SELECT key FROM pool_parts", "SELECT key FROM annotation_sets"):
        yield from work.session.scalars(text(column))


def _age_scratch(factory: Factory) -> None:
    then = time.time() - 2 * factory.settings.orphan_seconds
    folder = steps_folder(factory.settings)
    for path in [*folder.rglob("*"), folder]:
        if path.exists():
            os.utime(path, (then, then))


def check_database(factory: Factory) -> None:
    """SQLite's own opinion of the file."""
    if factory.engine.dialect.name == "sqlite":
        with factory.engine.connect() as connection:
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []


def repeated_batches(plan: Plan) -> dict[str, int]:
    """Kind of step -> the most finished batches that one of its kills made to be done again."""
    worst: dict[str, int] = {}
    by_step: dict[tuple[str, int], list[Batch]] = {}
    for batch in plan.batches():
        by_step.setdefault((batch.kind, batch.index), []).append(batch)
    for (kind, _index), found in by_step.items():
        worst[kind] = max(worst.get(kind, 0), _repeated(kind, found))
    return worst


def _repeated(kind: str, found: Sequence[Batch]) -> int:
    tokens = sorted({batch.token for batch in found})
    computed: list[tuple[str, int]] = []
    for token in tokens:
        own = [(batch.message, batch.done) for batch in found if batch.token == token]
        # A shard says first where it goes on.
        computed += own[1:] if kind == "label_shard" and own and own[0] in computed else own
    return len(computed) - len(set(computed))


def recovery_seconds(factory: Factory, plan: Plan) -> float:
    """The longest time from a worker's death until its step could go on."""
    with factory.read() as work:
        return max((_recovery(work, strike) for strike in plan.struck()), default=0.0)


def _recovery(work: Work, strike: Strike) -> float:
    """Nothing where the step was recorded before: the next ones were made ready with it."""
    query = select(Event).where(Event.step_id == strike.step_id, Event.type == "step.state").order_by(Event.id)
    later = [event for event in work.session.scalars(query) if event.created_at.timestamp() > strike.at]
    return later[0].created_at.timestamp() - strike.at if later else 0.0


def story(factory: Factory, job_id: str) -> list[dict[str, Any]]:
    """All events of a job, for a failing test's message."""
    with factory.read() as work:
        return [{"type": event.type, **event.data} for event in events.after(work, job_id, limit=10_000)]
