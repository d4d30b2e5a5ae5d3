"""Collecting from a worker: by hand, in the reaper's company, and around real checkpoints and scratch folders."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from service import object_keys, steps
from service.bootstrap import Factory, build_factory
from service.collector import collect, collect_in_turn
from service.ids import new_id
from service.settings import Settings
from tests import factories
from workers import collect as command
from workers.checkpoint import Checkpoint
from workers.reaper import start_reaper
from workers.scratch import attempt_folder, remove_abandoned, steps_folder

DAYS = 86_400.0


def make_old(*paths: Path, age: float = 2 * DAYS) -> None:
    then = time.time() - age
    for path in paths:
        os.utime(path, (then, then))


def orphan(factory: Factory) -> str:
    key = object_keys.student_file(new_id("stu"), 1, "model.onnx")
    factory.storage.put_stream(key, io.BytesIO(b"12345"))
    make_old(factory.settings.data_dir / "objects" / key)
    return key


def all_objects_become_old(factory: Factory) -> None:
    make_old(*(path for path in (factory.settings.data_dir / "objects").rglob("*") if path.is_file()))


def test_a_killed_workers_checkpoint_is_whole_after_collecting(factory: Factory, tmp_path: Path) -> None:
    """Three attempts, each killed; pieces travel once, and what was superseded goes."""
    factories.make_job(factory)
    superseded = set()
    for attempt in range(3):
        step = factories.must_claim(factory, f"worker-{attempt}")
        checkpoint = Checkpoint(factory, step, tmp_path / str(attempt))
        checkpoint.restore()
        assert {path.name for path in checkpoint.folder.iterdir() if path.name != "state"} == {
            f"piece-{former}" for former in range(attempt)
        }
        (checkpoint.folder / f"piece-{attempt}").write_bytes(b"p")
        (checkpoint.folder / "state").write_bytes(bytes([attempt]))
        checkpoint.save()
        # Killed after sending a file and before the manifest that would have named it.
        (checkpoint.folder / "late").write_bytes(b"l")
        checkpoint._serial += 1
        superseded.add(checkpoint._put_file("late", checkpoint.folder / "late"))
        with factory.work() as work:
            steps.release(work, step.id, step.token)
        all_objects_become_old(factory)
        collect(factory)
        assert not any(factory.storage.exists(key) for key in superseded)
    last = Checkpoint(factory, factories.must_claim(factory), tmp_path / "last")
    last.restore()
    assert {path.name for path in last.folder.iterdir()} == {"state", "piece-0", "piece-1", "piece-2"}


def test_collecting_while_checkpoints_are_saved_loses_none(factory: Factory, tmp_path: Path) -> None:
    """Everything is old enough at once; a worker saves as fast as it can, on top of an earlier attempt's pieces."""
    factories.make_job(factory)
    first = Checkpoint(factory, factories.must_claim(factory), tmp_path / "first")
    first.restore()
    for index in range(5):
        (first.folder / f"kept-{index}").write_bytes(b"k")
    first.save()
    with factory.work() as work:
        steps.release(work, first._step.id, first._step.token)
    second = Checkpoint(factory, factories.must_claim(factory), tmp_path / "second")
    second.restore()
    done = threading.Event()

    def save() -> None:
        for index in range(40):
            (second.folder / "state").write_bytes(bytes(index + 1))
            second.save()
        done.set()

    thread = threading.Thread(target=save)
    thread.start()
    while not done.is_set():
        collect(factory, older_than_seconds=0)
    thread.join()
    collect(factory, older_than_seconds=0)
    with factory.work() as work:
        steps.release(work, second._step.id, second._step.token)
    third = Checkpoint(factory, factories.must_claim(factory), tmp_path / "third")
    third.restore()
    assert {path.name for path in third.folder.iterdir()} == {"state", *(f"kept-{index}" for index in range(5))}
    assert (third.folder / "state").read_bytes() == bytes(40)


def test_scratch_folders_that_nobody_holds_go(any_factory: Factory) -> None:
    settings = any_factory.settings
    factories.make_job(any_factory)
    step = factories.must_claim(any_factory)
    held = attempt_folder(settings, step.id, step.token)
    former = attempt_folder(settings, step.id, step.token - 1)
    gone = attempt_folder(settings, new_id("step"), 1)
    upload, busy, foreign = (settings.resolved_scratch_dir / name for name in ("upload-a", "upload-b", "other"))
    for folder in (held, former, gone, upload, busy, foreign):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "file").write_bytes(b"x")
        make_old(folder / "deep" / "file", folder / "deep", folder)
    make_old(busy / "deep" / "file", age=60)
    young = attempt_folder(settings, new_id("step"), 2)
    young.mkdir()
    expected = {former, gone, upload}
    assert set(remove_abandoned(any_factory, dry_run=True)) == expected
    assert all(folder.exists() for folder in expected)
    assert set(remove_abandoned(any_factory)) == expected
    assert not any(folder.exists() for folder in expected)
    assert all(folder.exists() for folder in (held, busy, foreign, young))
    assert set(steps_folder(settings).iterdir()) == {held, young}


def test_without_a_scratch_folder_there_is_nothing_to_remove(factory: Factory) -> None:
    assert remove_abandoned(factory) == []


def test_by_hand(factory: Factory, capsys: pytest.CaptureFixture[str]) -> None:
    key = orphan(factory)
    assert command.run(factory, dry_run=True) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{key}\n1 orphaned objects of 3 would be removed, 5 bytes.\n")
    assert factory.storage.exists(key)
    assert command.run(factory, dry_run=False) == 0
    assert "1 orphaned objects of 3 removed, 5 bytes." in capsys.readouterr().out
    assert not factory.storage.exists(key)


def test_by_hand_while_another_process_is_at_it(factory: Factory, capsys: pytest.CaptureFixture[str]) -> None:
    codes = []

    def stop() -> bool:
        codes.append(command.run(factory, dry_run=False))
        return True

    collect_in_turn(factory, stop=stop)
    assert set(codes) == {1}
    assert "Another process" in capsys.readouterr().out


def test_by_hand_with_the_wrong_database(factory: Factory, capsys: pytest.CaptureFixture[str]) -> None:
    key = orphan(factory)
    factory.storage.put_stream(object_keys.STORE_OWNER, [b'{"database": "store-of-somebody"}'])
    assert command.run(factory, dry_run=False) == 1
    assert "another database" in capsys.readouterr().out
    assert factory.storage.exists(key)


def test_the_reapers_company_collects_and_ends(factory: Factory) -> None:
    key = orphan(factory)
    quick = build_factory(Settings(data_dir=factory.settings.data_dir, collect_seconds=0.1))
    shutdown = threading.Event()
    start_reaper(quick, shutdown)
    deadline = time.monotonic() + 30
    while factory.storage.exists(key) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutdown.set()
    for thread in threading.enumerate():
        if thread.name in ("collector", "reaper"):
            thread.join(20)
            assert not thread.is_alive()
    quick.close()
    assert not factory.storage.exists(key)


def test_an_outage_ends_no_collector(factory: Factory) -> None:
    broken = build_factory(Settings(data_dir=factory.settings.data_dir / "away", collect_seconds=0.01))  # no tables
    shutdown = threading.Event()
    thread = threading.Thread(target=command.collect_until, args=(broken, shutdown))
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    shutdown.set()
    thread.join(20)
    assert not thread.is_alive()
    broken.close()


def test_the_command_works_in_a_process_of_its_own_without_torch(factory: Factory) -> None:
    key = orphan(factory)
    code = (
        "import sys; from workers import collect\ntry:\n collect.main()\nfinally:\n assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "LABEL_FACTORY_DATA_DIR": str(factory.settings.data_dir)}
    for arguments in (["--dry-run"], []):
        assert factory.storage.exists(key)
        result = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, timeout=120
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("1 orphaned objects of 3") == 1
    assert not factory.storage.exists(key)
