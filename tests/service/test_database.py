"""Migrations, the clock, the unit of work and the settings."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from pydantic import ValidationError
from sqlalchemy import inspect, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError, OperationalError

from service import jobs
from service.bootstrap import Factory
from service.clock import database_now, read_clock
from service.database import alembic_config, make_engine, migrate
from service.doorbell import CeleryDoorbell, ListDoorbell, SilentDoorbell, open_doorbell
from service.errors import StorageFull
from service.ids import new_id
from service.lookup import is_id
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID, Base, Job
from tests.factories import make_job


def test_migrations_make_what_the_tables_say(
    tmp_path: Path, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for url in (f"sqlite:///{tmp_path / 'a folder%' / 'new.sqlite'}", postgresql_url):
        migrate(url)
        command.check(alembic_config(url))


def test_migrations_go_down_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    migrate(url)
    command.downgrade(alembic_config(url), "base")
    engine = make_engine(url)
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_students_without_a_dataset_come_to_a_factory_that_has_students(tmp_path: Path, postgresql_url: str) -> None:
    """The tables as they were at 0002, with rows that refer to each other, are brought up to date."""
    now = "2026-01-01 00:00:00"
    before = [
        f"INSERT INTO jobs VALUES ('job_1', 'label', 'j', '{{}}', 'queued', false, NULL, '{{}}', NULL, NULL, '{now}', NULL, NULL)",
        f"INSERT INTO datasets VALUES ('ds_1', 'job_1', 'd', 'sealed', 1, 1, '[]', 8, 8, NULL, '{{}}', '{{}}', '{now}', '{now}')",
        f"INSERT INTO students VALUES ('stu_1', 'job_1', 'ds_1', 's', 'a', 1, '[]', '[]', NULL, '{{}}', '{now}')",
        f"INSERT INTO reports VALUES ('rep_1', 'job_1', 'stu_1', '{{}}', '{now}')",
    ]
    for url in (f"sqlite:///{tmp_path / 'old.sqlite'}", new_database(postgresql_url, "old")):
        engine = make_engine(url)
        command.upgrade(alembic_config(url), "0002")
        with engine.begin() as connection:
            for statement in before:
                connection.execute(text(statement))
        migrate(url)
        with engine.begin() as connection:
            assert connection.execute(text("SELECT id, dataset_id FROM students")).all() == [("stu_1", "ds_1")]
            assert connection.execute(text("SELECT student_id FROM reports")).scalar_one() == "stu_1"
            connection.execute(text("UPDATE students SET dataset_id = NULL"))
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(text("DELETE FROM students"))
        with pytest.raises(IntegrityError):
            command.downgrade(alembic_config(url), "0002")
        engine.dispose()


def test_limits_of_keys_come_to_a_factory_in_use_and_go_again(tmp_path: Path, postgresql_url: str) -> None:
    """Rows of before 0009 are nobody's; what refers to a key keeps it there."""
    owner, now = f"'{DEFAULT_WORKSPACE_ID}'", "'2026-01-01 00:00:00'"
    before = [
        f"INSERT INTO api_keys (id, workspace_id, name, scope, prefix, secret_sha256, created_at) VALUES ('key_1', {owner}, 'k', 'write', 'p', 's', {now})",
        f"INSERT INTO jobs (id, workspace_id, kind, name, spec, state, cancel_requested, result, created_at) VALUES ('job_1', {owner}, 'label', 'j', '{{}}', 'queued', false, '{{}}', {now})",
        f"INSERT INTO steps (id, job_id, kind, \"index\", queue, state, attempt, lost, token, priority, params, created_at) VALUES ('step_1', 'job_1', 'k', 0, 'cpu', 'ready', 0, 0, 0, 0, '{{}}', {now})",
        f"INSERT INTO image_pools (id, workspace_id, name, state, num_images, created_at) VALUES ('pool_1', {owner}, 'p', 'open', 1, {now})",
        "INSERT INTO pool_parts (pool_id, \"index\", key, num_images, num_bytes, sha256) VALUES ('pool_1', 0, 'k', 1, 1, 's')",
    ]
    attributed = ("jobs", "pool_parts", "annotation_sets")
    for url in (f"sqlite:///{tmp_path / 'in use.sqlite'}", new_database(postgresql_url, "in_use")):
        engine = make_engine(url)
        command.upgrade(alembic_config(url), "0008")
        with engine.begin() as connection:
            for statement in before:
                connection.execute(text(statement))
        for _ in range(2):
            migrate(url)
            with engine.begin() as connection:
                for table in ("jobs", "pool_parts"):
                    assert connection.execute(text(f"SELECT api_key_id FROM {table}")).all() == [(None,)]
                    connection.execute(text(f"UPDATE {table} SET api_key_id = 'key_1'"))
                connection.execute(text("UPDATE api_keys SET max_stored_bytes = 1099511627776"))
            with pytest.raises(IntegrityError), engine.begin() as connection:
                connection.execute(text("DELETE FROM api_keys"))
            command.downgrade(alembic_config(url), "0008")
            for table in attributed:
                assert "api_key_id" not in {column["name"] for column in inspect(engine).get_columns(table)}
            with engine.begin() as connection:
                assert connection.execute(text("SELECT id, job_id FROM steps")).all() == [("step_1", "job_1")]
        engine.dispose()


def new_database(url: str, name: str) -> str:
    """An empty database on a PostgreSQL server."""
    engine = make_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def test_several_may_migrate_at_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.sqlite'}"
    with ThreadPoolExecutor(3) as pool:
        for future in [pool.submit(_migrate_in_a_process, url) for _ in range(3)]:
            future.result()
    engine = make_engine(url)
    assert set(Base.metadata.tables) <= set(inspect(engine).get_table_names())
    engine.dispose()


def _migrate_in_a_process(url: str) -> None:
    code = f"from service.database import migrate; migrate({url!r})"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_sqlite_is_set_up_for_many_processes(factory: Factory) -> None:
    with factory.engine.connect() as connection:
        pragmas = {
            name: connection.scalar(text(f"PRAGMA {name}")) for name in ("journal_mode", "busy_timeout", "foreign_keys")
        }
    assert pragmas == {"journal_mode": "wal", "busy_timeout": 20_000, "foreign_keys": 1}


def test_readers_do_not_wait_for_writers(factory: Factory) -> None:
    make_job(factory)
    with factory.work() as writer:
        writer.session.execute(text("UPDATE jobs SET name = 'x'"))
        with factory.read() as reader:
            assert jobs.list_page(reader).items[0].name != "x"


def test_more_connections_open_than_stay_open(tmp_path: Path, postgresql_url: str) -> None:
    for url in (f"sqlite:///{tmp_path / 'new.sqlite'}", postgresql_url):
        engine = make_engine(url, kept_connections=2)
        opened = [engine.connect() for _ in range(5)]
        for connection in opened:
            connection.close()
        assert engine.pool.status().startswith("Pool size: 2  Connections in pool: 2 ")
        engine.dispose()


def test_the_clock_is_the_databases_and_utc(any_factory: Factory) -> None:
    with any_factory.read() as work:
        now = read_clock(work.session)
        later = work.session.execute(select(database_now(90.5))).scalar_one()
    assert now.tzinfo is UTC
    assert abs((now - datetime.now(UTC)).total_seconds()) < 5
    assert timedelta(seconds=90) < later - now < timedelta(seconds=92)


def test_times_compare_as_times(any_factory: Factory) -> None:
    job = make_job(any_factory)
    with any_factory.read() as work:
        found = select(Job.id).where(Job.created_at > database_now(-60), Job.created_at < database_now(60))
        assert list(work.session.scalars(found)) == [job.id]
        assert jobs.get(work, job.id).created_at == job.created_at


def test_a_full_database_disk_is_told(factory: Factory) -> None:
    with pytest.raises(StorageFull, match="disk of the database"), factory.work():
        raise OperationalError("INSERT", {}, Exception("database or disk is full"))


def test_doorbells(settings: Settings) -> None:
    assert isinstance(open_doorbell(settings), SilentDoorbell)
    listed = ListDoorbell()
    listed.ring("gpu")
    assert listed.rung == ["gpu"]
    SilentDoorbell().ring("gpu")
    bell = open_doorbell(settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"}))
    assert isinstance(bell, CeleryDoorbell)
    bell.ring("gpu")  # nobody listens there: the row is safe, so this must not raise


def test_a_ring_reaches_redis(redis_url: str) -> None:
    import redis

    CeleryDoorbell(redis_url).ring("gpu")
    assert redis.Redis.from_url(redis_url).llen("lf:gpu") == 1


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LABEL_FACTORY_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("LABEL_FACTORY_LEASE_SECONDS", "30")
    found = Settings()
    assert found.lease_seconds == 30
    assert found.resolved_database_url == f"sqlite:///{tmp_path}/factory.sqlite"
    assert found.resolved_storage_url == (tmp_path / "objects").as_uri()
    monkeypatch.setenv("LABEL_FACTORY_HEARTBEAT_SECONDS", "20")
    with pytest.raises(ValidationError, match="at most a third"):
        Settings()


def test_ids_sort_by_time() -> None:
    ids = [new_id("job") for _ in range(3)]
    assert all(is_id(value) for value in ids)
    assert not any(is_id(value) for value in ["job_x", "job_" + "l" * 26, ids[0] + "\n", "\0", None])
    assert new_id("step")[5:15] >= ids[0][4:14]


def test_service_loads_without_torch() -> None:
    code = "import sys, service.bootstrap, service.jobs, service.steps, service.sealing; print('torch' in sys.modules, 'celery' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.split() == ["False", "False"]
