"""A hundred workers are killed at random moments, one to three at a time, while three of them label sixty shards."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos import checker
from tests.chaos.conftest import Ledger, database_of, run_undisturbed
from tests.chaos.faults import Plan
from tests.chaos.template import Template, make_template, opened, shards_only
from tests.chaos.worker import Fleet

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]

NUM_SHARDS, NUM_KILLS = 60, 100


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return make_template(tmp_path_factory.mktemp("many") / "template", shards_only(4 * NUM_SHARDS), shard_size=4)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_hundred_kills(
    many_shards: Template, tmp_path: Path, ledger: Ledger, database: str, request: pytest.FixtureRequest
) -> None:
    undisturbed = run_undisturbed(many_shards, tmp_path, shard_size=4)
    patient = {"shard_size": 4, "max_attempts": 50}
    if database == "sqlite":
        settings = many_shards.copy(tmp_path / "disturbed", **patient)
    else:
        url = request.getfixturevalue("postgresql_url")
        settings = many_shards.copy_to_postgresql(tmp_path / "disturbed", url, **patient)
    plan = Plan(tmp_path / "kills")
    plan.folder.mkdir()
    chance, kills = random.Random(7), 0
    with opened(settings) as factory, Fleet(settings, plan, size=3) as fleet:
        while kills < NUM_KILLS and not checker.has_ended(factory, many_shards.ids):
            wait_for_a_batch(fleet, chance)
            for victim in chance.sample(fleet.processes, min(chance.randint(1, 3), NUM_KILLS - kills)):
                victim.kill()
                victim.join()
                kills += 1
            fleet.tend()
        last = time.time()
        fleet.tend_until(lambda: checker.has_ended(factory, many_shards.ids), seconds=300)
        checker.check(factory, many_shards.ids, undisturbed)
        assert set(fleet.exits) == {-signal.SIGKILL}
    ledger.write(f"random kills over {NUM_SHARDS} shards, 3 workers", database_of(settings), kills)
    assert kills == NUM_KILLS, f"the job had ended after {kills} kills, {time.time() - last:.0f} s ago"


def wait_for_a_batch(fleet: Fleet, chance: random.Random) -> None:
    """Some progress between two kills, or a hundred of them would leave none; then any moment of the next batch."""
    count = len(fleet.plan.batches())
    news: Callable[[], bool] = fleet.batches_after(count)
    deadline = time.monotonic() + 10
    while not news() and time.monotonic() < deadline:
        fleet.tend()
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.1))
