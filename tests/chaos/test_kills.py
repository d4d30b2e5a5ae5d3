"""kill -9 at every point of every kind of step, three times: on SQLite, on PostgreSQL, on PostgreSQL with S3."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from service.settings import Settings
from tests.chaos import checker
from tests.chaos.conftest import Ledger, Results, database_of
from tests.chaos.faults import POINTS, Plan, Point
from tests.chaos.template import Template, opened
from tests.chaos.worker import Fleet
from workers.handlers import HANDLERS

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


@pytest.fixture(params=["sqlite", "postgresql", "cluster"])
def copied(request: pytest.FixtureRequest, template: Template, tmp_path: Path) -> Settings:
    """A copy of the template on each pair of database and store in turn."""
    folder = tmp_path / "data"
    if request.param == "sqlite":
        return template.copy(folder)
    url = request.getfixturevalue("postgresql_url")
    if request.param == "postgresql":
        return template.copy_to_postgresql(folder, url)
    return template.copy_to_cluster(folder, url, request.getfixturevalue("s3_address"))


@pytest.mark.parametrize("point", POINTS)
def test_the_first_worker_of_every_kind_of_step_is_killed(
    copied: Settings, template: Template, undisturbed: Results, plan: Plan, ledger: Ledger, point: Point
) -> None:
    plan = dataclasses.replace(plan, points=dict.fromkeys(HANDLERS, point))
    with opened(copied) as factory, Fleet(copied, plan, size=2) as fleet:
        fleet.tend_until(lambda: checker.has_ended(factory, template.ids), seconds=800)
        assert checker.errors(factory, template.ids) == {}, fleet.log.read_text()[-4000:]
        strikes = plan.struck()
        assert fleet.exits == [-9] * len(strikes)
        assert {strike.kind for strike in strikes} == set(HANDLERS)
        checker.check(factory, template.ids, undisturbed)
        recovery = checker.recovery_seconds(factory, plan)
    repeated = {kind: count for kind, count in checker.repeated_batches(plan).items() if kind not in checker.WHOLE}
    name = f"kill -9 {point.replace('_', ' ')}, all kinds of steps"
    ledger.write(name, database_of(copied), len(strikes), recovery=recovery, repeated=max(repeated.values()))
    assert recovery <= 2 * copied.lease_seconds
    assert max(repeated.values()) <= 1, repeated
