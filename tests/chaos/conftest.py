"""The prepared factory, its undisturbed results, and the table of faults survived that ends a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from tests.chaos import checker
from tests.chaos.checker import Fingerprint
from tests.chaos.faults import Plan
from tests.chaos.template import EVERY_KIND, Template, make_template, opened, shards_only
from tests.chaos.worker import Fleet, small_batches

Results = dict[str, Fingerprint]
COLUMNS = ("scenario", "database", "faults", "recovery s", "batches repeated", "outcome")


@dataclass
class Ledger:
    """What a test says of itself for the table."""

    record: Callable[[str, object], None]

    def write(
        self,
        scenario: str,
        database: str,
        faults: int | str,
        *,
        recovery: float | None = None,
        repeated: int | None = None,
    ) -> None:
        """One row."""
        row = [scenario, database, str(faults), "" if recovery is None else f"{recovery:.1f}"]
        self.record("survived", [*row, "" if repeated is None else str(repeated)])


@pytest.fixture
def ledger(record_property: Callable[[str, object], None]) -> Ledger:
    return Ledger(record_property)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table of faults survived, rows of the same scenario and database together."""
    rows: dict[tuple[str, str], Row] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, values in getattr(report, "user_properties", []):
                if name == "survived":
                    rows.setdefault((values[0], values[1]), Row()).add(values[2:], outcome)
    if not rows:
        return
    terminalreporter.section("faults survived")
    table = [COLUMNS, tuple("---" for _ in COLUMNS), *((*key, *row.cells()) for key, row in sorted(rows.items()))]
    for cells in table:
        terminalreporter.write_line("| " + " | ".join(cells) + " |")


@dataclass
class Row:
    """Runs of one scenario on one database."""

    faults: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    repeated: list[int] = field(default_factory=list)
    outcomes: set[str] = field(default_factory=set)

    def add(self, values: list[str], outcome: str) -> None:
        """One run more."""
        self.faults.append(values[0])
        self.recoveries += [float(values[1])] if values[1] else []
        self.repeated += [int(values[2])] if values[2] else []
        self.outcomes.add(outcome)

    def cells(self) -> tuple[str, ...]:
        """Sum of the faults, the worst of the rest."""
        plain = all(value.isdigit() for value in self.faults)
        return (
            str(sum(map(int, self.faults))) if plain else ", ".join(dict.fromkeys(self.faults)),
            f"{max(self.recoveries):.1f}" if self.recoveries else "",
            str(max(self.repeated)) if self.repeated else "",
            "survived" if self.outcomes == {"passed"} else "failed",
        )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A factory with jobs of every kind in its queue, to copy."""
    return make_template(tmp_path_factory.mktemp("every") / "template", EVERY_KIND)


@pytest.fixture(scope="session")
def undisturbed(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Id of each job of the template -> the digests of what it leaves when nothing happens."""
    return run_undisturbed(template, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """A factory with a job of twelve small shards, to copy."""
    return make_template(tmp_path_factory.mktemp("shards") / "template", shards_only(48), shard_size=4)


@pytest.fixture(scope="session")
def undisturbed_shards(shards: Template, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The same of the twelve shards."""
    return run_undisturbed(shards, tmp_path_factory.mktemp("undisturbed-shards"), shard_size=4)


def run_undisturbed(template: Template, folder: Path, **changes: Any) -> Results:
    """The digests of what a template's jobs leave when nothing happens."""
    settings = template.copy(folder / "data", **changes)
    with opened(settings) as factory, Fleet(settings, plan_in(folder), size=2, prepare=small_batches) as fleet:
        fleet.tend_until(lambda: checker.has_ended(factory, template.ids), seconds=300)
        assert fleet.exits == []
        checker.check(factory, template.ids)
        with factory.read() as work:
            return {job_id: checker.fingerprint(work, job_id) for job_id in template.ids}


def plan_in(folder: Path) -> Plan:
    """A plan in a folder of its own, without a fault."""
    own = folder / "plan"
    own.mkdir()
    return Plan(own)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """No fault is planned."""
    return plan_in(tmp_path)


@pytest.fixture
def copied_shards(shards: Template, tmp_path: Path) -> Settings:
    """A copy of the twelve shards: SQLite and files."""
    return shards.copy(tmp_path / "data", shard_size=4)


@pytest.fixture
def shards_on_postgresql(shards: Template, tmp_path: Path, postgresql_url: str) -> Settings:
    """A copy of the twelve shards with its rows in PostgreSQL."""
    return shards.copy_to_postgresql(tmp_path / "data", postgresql_url, shard_size=4)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_shards(request: pytest.FixtureRequest) -> Settings:
    """A copy of the twelve shards on each database in turn."""
    found: Settings = request.getfixturevalue("copied_shards" if request.param == "sqlite" else "shards_on_postgresql")
    return found


def database_of(settings: Settings) -> str:
    """Its name for the table."""
    place = "PostgreSQL" if settings.database_url else "SQLite"
    return f"{place} + S3" if settings.storage_url.startswith("s3:") else place
