"""An S3 store behind a network that is slow, that cuts connections, or that goes silent without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.settings import Settings
from tests.chaos import checker
from tests.chaos.conftest import Ledger, Results
from tests.chaos.faults import Plan
from tests.chaos.proxy import Proxy
from tests.chaos.template import Template, opened
from tests.chaos.worker import Fleet
from tests.servers import S3Address

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


@pytest.fixture
def remote(shards: Template, tmp_path: Path, postgresql_url: str, s3_address: S3Address) -> Settings:
    """The twelve shards on PostgreSQL and S3."""
    changes = {"shard_size": 4, "s3_timeout_seconds": 3.0}
    return shards.copy_to_cluster(tmp_path / "data", postgresql_url, s3_address, **changes)


@contextmanager
def behind(remote: Settings) -> Iterator[tuple[Proxy, Settings]]:
    """The same factory with a proxy before its store."""
    with Proxy(remote.s3_endpoint or "") as proxy:
        yield proxy, remote.model_copy(update={"s3_endpoint": proxy.url})


def test_a_slow_store(
    remote: Settings, shards: Template, undisturbed_shards: Results, plan: Plan, ledger: Ledger
) -> None:
    patient = remote.model_copy(update={"s3_timeout_seconds": 60.0})
    with behind(patient) as (proxy, settings), opened(remote) as factory, Fleet(settings, plan, size=2) as fleet:
        proxy.delay_seconds, proxy.bytes_per_second = 0.02, 1_000_000
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=400)
        checker.check(factory, shards.ids, undisturbed_shards)
        assert fleet.exits == []
        assert proxy.passed > 100_000
    ledger.write("S3 with 40 ms of delay and less than 1 MB/s", "PostgreSQL + S3", 1)


def test_a_store_that_cuts_connections(
    remote: Settings, shards: Template, undisturbed_shards: Results, plan: Plan, ledger: Ledger
) -> None:
    with behind(remote) as (proxy, settings), opened(remote) as factory, Fleet(settings, plan, size=2) as fleet:
        proxy.reset_after = 1_000
        fleet.tend_until(lambda: proxy.resets > 20, seconds=100)
        proxy.reset_after = None
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=400)
        checker.check(factory, shards.ids, undisturbed_shards)
        assert fleet.exits == []
    ledger.write("S3 connections reset in the midst of an answer", "PostgreSQL + S3", proxy.resets)


def test_a_store_that_goes_silent(
    remote: Settings, shards: Template, undisturbed_shards: Results, plan: Plan, ledger: Ledger
) -> None:
    """Half-open: no byte comes and no connection ends. Requests give up, the leases are held, the work goes on."""
    with behind(remote) as (proxy, settings), opened(remote) as factory, Fleet(settings, plan, size=2) as fleet:
        fleet.tend_until(fleet.batches_after(6), seconds=100)
        proxy.silent = True
        fleet.tend_until(lambda: proxy.swallowed >= 2, seconds=100)
        fleet.tend_until(lambda: fleet.log.read_text().count("step failed") >= 1, seconds=100)
        proxy.silent = False
        count = len(plan.batches())
        recovery = fleet.tend_until(fleet.batches_after(count), seconds=100)
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=400)
        checker.check(factory, shards.ids, undisturbed_shards)
        assert fleet.exits == []
    ledger.write("S3 half-open until a step gave up", "PostgreSQL + S3", 1, recovery=recovery)
