"""Schemas that go up, down and up again under real rows, and a worker of the release before on the new schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select

from service.database import alembic_config, make_engine
from service.settings import Settings
from service.tables import Base
from tests.chaos import checker
from tests.chaos.conftest import Ledger, Results, database_of
from tests.chaos.template import Template, opened

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
Rows = dict[str, list[dict[str, object]]]


def rows_of(url: str) -> Rows:
    engine = make_engine(url)
    with engine.connect() as connection:
        tables = Base.metadata.sorted_tables
        found = {
            table.name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
            for table in tables
        }
    engine.dispose()
    return found


def test_the_newest_migration_goes_down_and_up_again_under_rows(
    any_shards: Settings, shards: Template, undisturbed_shards: Results, ledger: Ledger
) -> None:
    """Tables that both schemas have keep their rows; the service runs a job afterwards."""
    url = any_shards.resolved_database_url
    config = alembic_config(url)
    before = rows_of(url)
    command.downgrade(config, "-1")
    command.upgrade(config, "head")
    after = rows_of(url)
    newest = {name for name in before if before[name] != after[name]}
    assert not newest & {"jobs", "steps", "events", "datasets", "students", "reports", "generators"}, newest
    run_job_with(ROOT, any_shards)
    with opened(any_shards) as factory:
        checker.check(factory, shards.ids, undisturbed_shards)
    ledger.write("newest migration down and up under rows", database_of(any_shards), 2)


def test_all_migrations_go_down_one_by_one_and_up_again(any_shards: Settings, ledger: Ledger) -> None:
    url = any_shards.resolved_database_url
    config = alembic_config(url)
    revisions = list(ScriptDirectory.from_config(config).walk_revisions())
    for _ in revisions:
        command.downgrade(config, "-1")
    engine = make_engine(url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()
    for revision in reversed(revisions):
        command.upgrade(config, revision.revision)
    command.check(config)
    ledger.write("all migrations down and up, one by one", database_of(any_shards), 2 * len(revisions))


def test_a_worker_of_the_release_before_runs_on_the_new_schema(
    any_shards: Settings, shards: Template, undisturbed_shards: Results, ledger: Ledger, tmp_path: Path
) -> None:
    """Rolling upgrade: the schema comes first, and workers that run go on until they are replaced."""
    old = release_before(tmp_path / "old")
    run_job_with(old, any_shards)
    with opened(any_shards) as factory:
        checker.check(factory, shards.ids, undisturbed_shards)
    ledger.write("old worker on the new schema", database_of(any_shards), 1)


def release_before(folder: Path) -> Path:
    """The source as it was before the newest migration came."""
    newest = next(ScriptDirectory.from_config(alembic_config("sqlite://")).walk_revisions())
    path = Path(newest.path).relative_to(ROOT)
    added = git("log", "--diff-filter=A", "--format=%H", "--", str(path))
    if not added:
        pytest.skip("the history does not say when the newest migration came")
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", f"{added.splitlines()[-1]}^"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "-x"], input=archive, cwd=folder, check=True)
    assert not (folder / path).exists()
    return folder


def git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


RUN = """
from service.bootstrap import build_factory
from service.settings import Settings
from workers.device import limit_threads
from workers.handlers import HANDLERS
from workers.runtime import run_next_step
limit_threads(1)
factory = build_factory(Settings())
while run_next_step(factory, "old", HANDLERS):
    pass
"""


def run_job_with(source: Path, settings: Settings) -> None:
    """Run all that is ready with the code of a folder, in a process of its own; it does not touch the schema."""
    known = ("data_dir", "database_url", "shard_size", "lease_seconds", "heartbeat_seconds")
    environment = {f"LABEL_FACTORY_{name.upper()}": str(getattr(settings, name)) for name in known}
    environment |= {
        "PYTHONPATH": str(source),
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(Path.home()),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
