"""A disk that runs full under the database, the objects or the scratch folder, and then has room again."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service import jobs, steps
from service.bootstrap import Factory
from service.settings import Settings
from tests.chaos import checker
from tests.chaos.conftest import Ledger, Results
from tests.chaos.faults import Plan
from tests.chaos.template import Template, opened
from tests.chaos.worker import Fleet
from tests.factories import job_now

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1800)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this user may not mount a tmpfs: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def is_at_rest(factory: Factory, job_id: str) -> bool:
    """Whether a job has ended and its last step, too."""
    with factory.read() as work:
        running = any(step.state == "running" for step in steps.list_of_job(work, job_id))
    return checker.has_ended(factory, [job_id]) and not running


def fill(folder: Path) -> Path:
    """Take all the room there is, that too which steps have given back since; the file that takes it."""
    ballast = folder / "ballast"
    with ballast.open("ab", 0) as file, suppress(OSError):
        while True:
            file.write(bytes(max(shutil.disk_usage(folder).free, 4096)))
    return ballast


def test_the_databases_disk_is_full(
    copied_shards: Settings,
    small_disk: Path,
    shards: Template,
    undisturbed_shards: Results,
    plan: Plan,
    ledger: Ledger,
) -> None:
    """Nobody can claim or record, so no attempt is lost; with room again the same workers go on."""
    shutil.move(copied_shards.data_dir / "factory.sqlite", small_disk / "factory.sqlite")
    settings = copied_shards.model_copy(update={"database_url": f"sqlite:///{small_disk / 'factory.sqlite'}"})
    with opened(settings) as factory, Fleet(settings, plan, size=2) as fleet:
        fleet.tend_until(fleet.batches_after(6), seconds=100)
        ballast = fill(small_disk)
        fleet.tend_until(lambda: "disk is full" in fleet.log.read_text(), seconds=60)
        time.sleep(3 * settings.lease_seconds)
        ballast.unlink()
        count = len(plan.batches())
        recovery = fleet.tend_until(fleet.batches_after(count), seconds=60)
        fleet.tend_until(lambda: checker.has_ended(factory, shards.ids), seconds=200)
        checker.check(factory, shards.ids, undisturbed_shards)
        assert fleet.exits == []
    ledger.write("disk of the database full, then freed", "SQLite", 1, recovery=recovery)


@pytest.mark.parametrize("what", ["objects", "scratch"])
def test_the_disk_of_files_is_full(
    any_shards: Settings,
    small_disk: Path,
    shards: Template,
    undisturbed_shards: Results,
    plan: Plan,
    ledger: Ledger,
    what: str,
) -> None:
    """The job fails and says so; with room again it is retried and goes on where it was."""
    changes: dict[str, Any] = {"min_free_bytes": 0}
    if what == "objects":
        shutil.move(any_shards.data_dir / "objects", small_disk / "objects")
        (any_shards.data_dir / "objects").symlink_to(small_disk / "objects")
    else:
        changes["scratch_dir"] = small_disk / "scratch"
    settings = any_shards.model_copy(update=changes)
    (job_id,) = shards.ids
    with opened(settings) as factory, Fleet(settings, plan, size=2) as fleet:
        fleet.tend_until(fleet.batches_after(6), seconds=100)
        ballast = fill(small_disk)
        # A step that still runs when its job has failed meets the full disk, too, and would fail the job after its retry.
        fleet.tend_until(lambda: is_at_rest(factory, job_id), seconds=100, each=lambda: fill(small_disk))
        assert error_of(factory, job_id)["type"] in ("storage-full", "disk-full")
        assert "Free space" in error_of(factory, job_id)["hint"]
        ballast.unlink()
        with factory.work() as work:
            jobs.retry(work, job_id)
        count = len(plan.batches())
        recovery = fleet.tend_until(fleet.batches_after(count), seconds=60)
        fleet.tend_until(lambda: checker.has_ended(factory, [job_id]), seconds=200)
        checker.check(factory, [job_id], undisturbed_shards)
        assert fleet.exits == []
    database = "PostgreSQL" if settings.database_url else "SQLite"
    ledger.write(f"disk of {what} full, then freed and retried", database, 1, recovery=recovery)


def error_of(factory: Factory, job_id: str) -> dict[str, Any]:
    return job_now(factory, job_id).error or {}
