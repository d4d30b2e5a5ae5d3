"""The doctor tells what is there and what to do, on both kinds of factory, and breaks nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from service import workers
from service.bootstrap import Factory, build_factory, prepare
from service.collector import require_own_store
from service.database import make_engine
from service.doctor import Finding, examine, settings_or_faults
from service.settings import Settings
from service.workers import SignOfLife
from tests import factories
from tests.conftest import empty_tables
from tests.servers import S3Address


def found(settings: Settings) -> dict[str, Finding]:
    findings = examine(settings)
    for finding in findings:
        assert finding.ok or finding.what_to_do, finding
    return {finding.check: finding for finding in findings}


def wrong(settings: Settings) -> dict[str, str]:
    return {check: finding.found for check, finding in found(settings).items() if not finding.ok}


def test_a_sound_embedded_factory(factory: Factory) -> None:
    require_own_store(factory)
    before = sorted(factory.settings.data_dir.rglob("*"))
    checks = found(factory.settings)
    assert all(finding.ok for finding in checks.values()), checks
    assert "SQLite" in checks["database"].found
    assert checks["workers"].found == "gpu: 0 alive, cpu: 0 alive"
    objects = [path for path in factory.settings.data_dir.rglob("*") if path not in before and path.is_file()]
    assert objects == [], "no probe is left"


def test_nothing_is_made_where_nothing_is(tmp_path: Path) -> None:
    checks = found(Settings(data_dir=tmp_path / "data"))
    assert all(finding.ok for finding in checks.values())
    assert "first start" in checks["database"].found
    assert not (tmp_path / "data").exists()


def test_a_sound_cluster(tmp_path: Path, postgresql_url: str, s3_address: S3Address, redis_url: str) -> None:
    empty_tables(postgresql_url)
    settings = Settings(
        data_dir=tmp_path,
        database_url=postgresql_url,
        broker_url=redis_url,
        storage_url=f"s3://{s3_address.bucket}/doctor",
        s3_endpoint=s3_address.endpoint,
        s3_access_key_id=s3_address.key_id,
        s3_secret_access_key=s3_address.secret,
    )
    factory = build_factory(settings)
    prepare(factory)
    factory.close()
    bad = wrong(settings)
    # The test's Redis is in memory alone, which is just what the doctor must see.
    assert set(bad) == {"broker"}
    assert "noeviction" in bad["broker"]
    assert "append-only file off" in bad["broker"]
    import redis

    redis.Redis.from_url(redis_url).config_set("appendonly", "yes")
    assert wrong(settings) == {}
    refused = settings.model_copy(update={"s3_secret_access_key": settings.s3_access_key_id})
    assert set(wrong(refused)) >= {"store"}


def test_what_does_not_answer_is_a_finding_each(tmp_path: Path) -> None:
    nowhere = Settings(
        data_dir=tmp_path,
        database_url="postgresql://nobody:secret@127.0.0.1:9/factory",
        broker_url="redis://127.0.0.1:9/0",
        min_free_bytes=2**50,
    )
    checks = found(nowhere)
    assert {check for check, finding in checks.items() if not finding.ok} == {"disk", "database", "broker"}
    assert "LABEL_FACTORY_DATABASE_URL" in checks["database"].what_to_do
    assert "secret" not in "".join(finding.found + finding.what_to_do for finding in checks.values())


def test_a_store_that_cannot_be_opened_is_told(factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    settings = factory.settings.model_copy(update={"storage_url": (tmp_path / "file").as_uri()})
    assert set(wrong(settings)) == {"store"}


def test_a_schema_of_another_release_is_told(factory: Factory) -> None:
    for revision, words in (("0002", "service.bootstrap"), ("9999", "newer release")):
        with factory.engine.begin() as connection:
            connection.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
        schema = found(factory.settings)["schema"]
        assert not schema.ok
        assert words in schema.what_to_do


def test_a_damaged_database_is_told(factory: Factory) -> None:
    for _ in range(20):
        factories.make_job(factory)
    factory.engine.dispose()
    path = factory.settings.data_dir / "factory.sqlite"
    engine = make_engine(factory.settings.resolved_database_url)
    with engine.connect() as connection:
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.exec_driver_sql("BEGIN")
    engine.dispose()
    content = bytearray(path.read_bytes())
    content[8192 : len(content)] = os.urandom(len(content) - 8192)
    path.write_bytes(content)
    assert "database" in wrong(factory.settings)


def test_the_objects_of_another_database_are_told(factory: Factory, tmp_path: Path, migrated_sqlite: Path) -> None:
    require_own_store(factory)
    (tmp_path / "other.sqlite").write_bytes(migrated_sqlite.read_bytes())
    other = factory.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path / 'other.sqlite'}"})
    assert set(wrong(other)) == {"store belongs to database"}


def test_steps_that_nobody_listens_to_are_told(factory: Factory) -> None:
    factories.make_job(factory)
    assert wrong(factory.settings) == {"workers": "gpu: 0 alive, cpu: 0 alive"}
    with factory.work() as work:
        workers.beat(work, SignOfLife("host:1", "host", ["gpu"], "cpu", 1, 2, 3))
    assert wrong(factory.settings) == {}


def test_each_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_LEASE_SECONDS", "soon")
    monkeypatch.setenv("LABEL_FACTORY_PAGE_LIMIT", "0")
    findings = settings_or_faults()
    assert isinstance(findings, list)
    assert [finding.found.split(":")[0] for finding in findings] == [
        "LABEL_FACTORY_LEASE_SECONDS",
        "LABEL_FACTORY_PAGE_LIMIT",
    ]


def test_a_misspelt_setting_is_told(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_API_KEY", "the command line's")
    assert wrong(factory.settings) == {}
    monkeypatch.setenv("LABEL_FACTORY_LEASE_SECOND", "60")
    (finding,) = (finding for finding in examine(factory.settings) if not finding.ok)
    assert finding.what_to_do == "Rename LABEL_FACTORY_LEASE_SECOND to LABEL_FACTORY_LEASE_SECONDS"


@pytest.mark.parametrize(("free", "code"), [("0", 0), (str(2**50), 1)])
def test_the_exit_code_says_whether_all_is_well(tmp_path: Path, free: str, code: int) -> None:
    environment = {**os.environ, "LABEL_FACTORY_DATA_DIR": str(tmp_path), "LABEL_FACTORY_MIN_FREE_BYTES": free}
    command = [sys.executable, "-m", "service.doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert {finding["check"] for finding in json.loads(done.stdout)} == {"settings", "disk", "database"}
