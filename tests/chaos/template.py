"""A factory with jobs in its queue, prepared once and copied for every scenario: same ids, so the same results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import delete, insert, select, text
from sqlalchemy.engine import make_url

from service import jobs
from service.bootstrap import Factory, build_factory, prepare
from service.database import make_engine, migrate
from service.ids import new_id
from service.job_spec import parse
from service.settings import Settings
from service.storage import open_storage
from service.tables import DEFAULT_WORKSPACE_ID, Base, Workspace
from tests import tiny
from tests.servers import S3Address

Documents = dict[str, dict[str, Any]]
QUICK: dict[str, Any] = {
    "lease_seconds": 4.0,
    "heartbeat_seconds": 1.0,
    "reap_seconds": 0.5,
    "poll_seconds": 0.1,
    "progress_event_seconds": 0.1,
    "retry_backoff_seconds": 0.2,
    "max_attempts": 6,
    "shard_size": 40,
}
"""Seconds where the defaults have minutes."""
STUDENT = {"architecture": "segformer_nano", "steps": 3, "finetune_steps": 2, "batch_size": 2}
HEAD = {**tiny.HEAD, "steps": 4}
NETWORK = {"block_out_channels": [8, 16], "layers_per_block": 1, "patch_size": 2, "attention": False}


@dataclass(frozen=True)
class Template:
    """The prepared factory's folder and the jobs in it."""

    folder: Path
    jobs: dict[str, str]
    """Name of a job -> its id."""

    @property
    def ids(self) -> list[str]:
        """Ids of all jobs."""
        return list(self.jobs.values())

    def copy(self, folder: Path, **changes: Any) -> Settings:
        """A copy in a folder: SQLite and files."""
        shutil.copytree(self.folder, folder)
        return Settings(data_dir=folder, **{**QUICK, **changes})

    def copy_to_postgresql(self, folder: Path, server_url: str, **changes: Any) -> Settings:
        """A copy whose rows are in a new database of a server."""
        settings = self.copy(folder, **changes)
        url = copy_rows(settings.resolved_database_url, server_url)
        return settings.model_copy(update={"database_url": url})

    def copy_to_cluster(self, folder: Path, server_url: str, s3: S3Address, **changes: Any) -> Settings:
        """A copy whose rows are in PostgreSQL and whose objects are in S3."""
        settings = self.copy_to_postgresql(folder, server_url, **changes)
        names = {
            name.removeprefix("LABEL_FACTORY_").lower(): value for name, value in s3.environment(new_id("job")).items()
        }
        remote = Settings(**{**settings.model_dump(), **names})
        source, target = open_storage(settings), open_storage(remote)
        for batch in source.scan():
            for item in batch:
                # Whole: obstore cannot read one store while it writes into another.
                target.put_stream(item.key, [b"".join(source.get_stream(item.key))])
        return remote


def make_template(folder: Path, documents: Mapping[str, Mapping[str, Any]], **settings: Any) -> Template:
    """Images, annotations, a generator and these jobs on them; what a document leaves out is filled in."""
    generator = tiny.generator_folder(folder.parent / "generators")
    factory = build_factory(Settings(data_dir=folder, **{**QUICK, **settings})).within(DEFAULT_WORKSPACE_ID)
    prepare(factory)
    with factory.work() as work:
        few, held_out = tiny.make_annotation_set(work).id, tiny.make_annotation_set(work, first=50, count=4).id
        pool, source = tiny.make_pool(work, parts=(9, 9)).id, tiny.make_generator(work, generator).id
    sets = {"annotation_set_id": few, "evaluation_set_id": held_out}
    given: Documents = {
        "label": {"generator": source, "sampling_steps": 2, "head": HEAD, "student": STUDENT, **sets},
        "train_generator": {"image_pool_id": pool, "network": NETWORK, "holdout_share": 0.0, "batch_size": 4},
        "train_student": {"student": STUDENT, **sets},
    }
    made = {}
    for name, document in documents.items():
        with factory.work() as work:
            made[name] = jobs.create(work, parse({**given[document["kind"]], **document})).job.id
    factory.close()
    return Template(folder, made)


EVERY_KIND: Documents = {
    "label": {"kind": "label", "num_images": 60},
    "train_generator": {"kind": "train_generator", "name": "trained", "steps": 5},
    "train_student": {"kind": "train_student"},
}
"""Jobs that have every kind of step between them."""


def shards_only(num_images: int) -> Documents:
    """A job that is over when its dataset is sealed and exported."""
    return {"shards": {"kind": "label", "num_images": num_images, "stop_after": "dataset"}}


@contextmanager
def opened(settings: Settings) -> Iterator[Factory]:
    """A factory for the test's own process."""
    factory = build_factory(settings).within(DEFAULT_WORKSPACE_ID)
    yield factory
    factory.close()


def copy_rows(source_url: str, server_url: str) -> str:
    """All rows of a SQLite file in a new database of a PostgreSQL server; its URL."""
    name = new_id("job")[4:]
    server = make_engine(server_url)
    with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f'CREATE DATABASE "{name}"'))
    server.dispose()
    url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
    migrate(url)
    source, target = make_engine(source_url), make_engine(url)
    with source.connect() as reader, target.begin() as writer:
        writer.execute(delete(Workspace))  # the one that the migration made comes along
        for table in Base.metadata.sorted_tables:
            rows = [dict(row) for row in reader.execute(select(table)).mappings()]
            if rows:
                writer.execute(insert(table), rows)
        writer.execute(text("SELECT setval(pg_get_serial_sequence('events', 'id'), (SELECT max(id) FROM events))"))
    source.dispose()
    target.dispose()
    return url
