"""The k-th call to database or store fails, for every k: before its effect, or after it, when nobody hears that it worked.

The handlers leave real rows and real objects and compute nothing, so that a whole job takes a tenth of a second.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from service import datasets, events, jobs, object_keys, steps
from service.bootstrap import Factory, build_factory, put_marker
from service.collector import collect
from service.datasets import NewShard
from service.errors import StorageFull
from service.settings import Settings
from service.storage import ObjectStorage, StorageError
from service.tables import DEFAULT_WORKSPACE_ID
from tests import factories
from tests.chaos.conftest import Ledger
from tests.conftest import empty_tables
from workers.context import Outcome, StepContext
from workers.runtime import Handler, run_next_step

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

ERRORS: Mapping[str, Callable[[], Exception]] = {
    "reset": lambda: StorageError("connection reset by peer"),
    "503": lambda: StorageError("503 Slow Down"),
    "full": lambda: StorageFull("No space left on device"),
}


class Calls:
    """Counts calls and fails the k-th, before or after its effect."""

    def __init__(self, error: Callable[[], Exception], *, after: bool) -> None:
        self.error, self.after = error, after
        self.fail_at: int | None = None
        self.count = 0

    def arm(self, k: int | None) -> None:
        self.fail_at, self.count = k, 0

    def passing(self, call: Callable[[], Any]) -> Any:
        self.count += 1
        strikes = self.count == self.fail_at
        if strikes and not self.after:
            raise self.error()
        result = call()
        if strikes:
            raise self.error()
        return result


class FailingStorage:
    """A real store, some call of which fails."""

    def __init__(self, real: ObjectStorage, calls: Calls) -> None:
        self._real, self._calls = real, calls

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        return lambda *args, **kwargs: self._calls.passing(lambda: real(*args, **kwargs))


def failing_database(factory: Factory, calls: Calls) -> None:
    """Statements fail before their effect, which a rollback undoes anyway; commits before or after it."""

    def statement(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
        calls.count += 1
        if calls.count == calls.fail_at and not calls.after:
            raise OperationalError(sql, {}, Exception("server closed the connection unexpectedly"))

    def committed(_session: Any) -> None:
        calls.count += 1
        if calls.count == calls.fail_at:
            raise OperationalError("COMMIT", {}, Exception("server closed the connection unexpectedly"))

    event.listen(factory.engine, "before_cursor_execute", statement)
    event.listen(factory.sessions, "after_commit" if calls.after else "before_commit", committed)


def make_file(context: StepContext) -> Outcome:
    """A step with two batches, a checkpoint after each, and one object."""
    done = context.checkpoint.folder / "done"
    for batch in range(int(done.read_text()) if done.exists() else 0, 2):
        context.check()
        done.write_text(str(batch + 1))
        context.checkpoint.save()
        context.progress(batch + 1, 2)
    key = context.key("result.json")
    context.put(key, [json.dumps(context.step.params).encode()])
    return Outcome({"head_key": key})


def make_shard(context: StepContext) -> Outcome:
    """A shard with made-up images."""
    outcome = make_file(context)
    params, dataset_id = context.step.params, context.step.job_result["dataset_id"]
    key = object_keys.dataset_shard(dataset_id, params["shard_index"], context.step.token)
    stored = context.put(key, [f"shard {params['shard_index']}".encode()])
    images = [factories.new_image(params["first_index"] + i, name=f"{i:06}") for i in range(params["count"])]
    shard = NewShard(params["shard_index"], key, stored.sha256, stored.num_bytes, params["count"], params["pool"])
    return Outcome(outcome.output, lambda work: datasets.record_shard(work, dataset_id, shard, images))


HANDLERS: dict[str, Handler] = {
    "fit_head": make_file,
    "label_shard": make_shard,
    "seal_dataset": make_file,
    "export_dataset": make_file,
}


@pytest.fixture(params=["sqlite", "postgresql"])
def settings_of(request: pytest.FixtureRequest, tmp_path: Path, migrated_sqlite: Path) -> Callable[[int], Settings]:
    """k -> settings of an empty factory."""
    url = request.getfixturevalue("postgresql_url") if request.param == "postgresql" else ""

    def make(k: int) -> Settings:
        folder = tmp_path / str(k)
        folder.mkdir()
        if url:
            empty_tables(url)
        else:
            (folder / "factory.sqlite").write_bytes(migrated_sqlite.read_bytes())
        quick = {"heartbeat_seconds": 0.05, "lease_seconds": 0.4, "retry_backoff_seconds": 0.0, "shard_size": 2}
        return Settings(data_dir=folder, database_url=url, max_attempts=4, **quick)

    return make


def run_to_the_end(factory: Factory, job_id: str) -> int:
    """Work as a worker does, and wait for leases where a record was lost; the number of steps begun."""
    begun, deadline = 0, time.monotonic() + 30
    while (job := calm(lambda: factories.job_now(factory, job_id))).state not in ("succeeded", "failed"):
        assert time.monotonic() < deadline, "the job does not end"
        try:
            begun += run_next_step(factory, "worker-1", HANDLERS)
            with factory.work() as work:
                steps.reap(work)
        except (OperationalError, StorageError, StorageFull):
            continue  # `WorkerProcess.run_one` logs it and goes on
    if job.state == "failed":
        assert (job.error or {})["type"] == "storage-full", job.error
        with factory.work() as work:
            jobs.retry(work, job_id)
        return begun + run_to_the_end(factory, job_id)
    return begun


def calm(look: Callable[[], Any]) -> Any:
    """What the test itself asks; its own question may be the one that fails."""
    try:
        return look()
    except OperationalError:
        return look()


def check(factory: Factory, job_id: str) -> None:
    """Every shard once, every row with its object, and nothing else after a collection."""
    with factory.read() as work:
        rows = steps.list_of_job(work, job_id)
        assert [(row.kind, row.index) for row in rows if row.state != "succeeded"] == []
        dataset_id = jobs.get(work, job_id).result["dataset_id"]
        keys = {str((row.output or {})["head_key"]) for row in rows}
        keys |= {shard.key for shard in datasets.shards(work, dataset_id)}
        assert len(keys) == len(rows) + 3
        assert datasets.num_recorded(work, dataset_id) == 6
        states = [e.data for e in events.after(work, job_id, limit=1_000) if e.type == "step.state"]
        assert sum(data["state"] == "succeeded" for data in states) == len(rows)
    collect(factory, older_than_seconds=-1)
    left = {item.key for batch in factory.storage.scan() for item in batch}
    assert keys <= left
    assert not {key for key in left - keys if key.startswith(("steps/", "datasets/"))}


def sweep(settings_of: Callable[[int], Settings], place: str, calls: Calls, stride: int) -> int:
    """Fail the k-th call for k = 1, 1 + stride, ... until a job ends before the k-th; how many failed."""
    for count, k in enumerate(itertools.count(1, stride)):
        factory = build_factory(settings_of(k)).within(DEFAULT_WORKSPACE_ID)
        put_marker(factory.storage)
        job_id = factories.make_job(factory, num_images=6).id
        calls.arm(k)
        if place == "store":
            disturbed = dataclasses.replace(factory, storage=FailingStorage(factory.storage, calls))
        else:
            disturbed = build_factory(factory.settings, storage=factory.storage)
            failing_database(disturbed, calls)
        run_to_the_end(disturbed, job_id)
        struck = calls.count >= k
        calls.arm(None)
        check(factory, job_id)
        disturbed.close()
        factory.close()
        if not struck:
            return count
    raise AssertionError("unreachable")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("error", ["reset", "full"])
def test_the_kth_call_to_the_store_fails(
    settings_of: Callable[[int], Settings],
    ledger: Ledger,
    error: str,
    after: bool,
    request: pytest.FixtureRequest,
) -> None:
    failed = sweep(settings_of, "store", Calls(ERRORS[error], after=after), stride=1)
    assert failed > 30
    database = "SQLite" if "sqlite" in request.node.name else "PostgreSQL"
    ledger.write(f"k-th call to the store fails, {error} {'after' if after else 'before'} its effect", database, failed)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_the_kth_call_to_the_database_fails(
    settings_of: Callable[[int], Settings], ledger: Ledger, after: bool, request: pytest.FixtureRequest
) -> None:
    is_sqlite = "sqlite" in request.node.name
    calls = Calls(ERRORS["reset"], after=after)
    failed = sweep(settings_of, "database", calls, stride=1 if is_sqlite else 3)
    assert failed > 30
    effect = "after" if after else "before"
    ledger.write(
        f"k-th call to the database fails {effect} its effect", "SQLite" if is_sqlite else "PostgreSQL", failed
    )
