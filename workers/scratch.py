"""The scratch folder of this machine, and what killed processes left in it. Loads no torch."""

import shutil
import time
from contextlib import suppress
from pathlib import Path

import structlog

from service import steps
from service.bootstrap import Factory
from service.settings import Settings

log = structlog.get_logger(__name__)

BATCH = 500


def steps_folder(settings: Settings) -> Path:
    """Where attempts have their scratch folders."""
    return settings.resolved_scratch_dir / "steps"


def attempt_folder(settings: Settings, step_id: str, token: int) -> Path:
    """The scratch folder of one attempt at a step."""
    return steps_folder(settings) / f"{step_id}-{token}"


def remove_abandoned(factory: Factory, *, dry_run: bool = False) -> list[Path]:
    """Remove folders of attempts that hold no step and of uploads that ended; returns them.

    Only what nothing was written to for `orphan_seconds`: an attempt that just lost its step may still be writing.
    """
    settings = factory.settings
    oldest = time.time() - settings.orphan_seconds
    attempts = [folder for folder in steps_folder(settings).glob("step_*-*") if _is_older(folder, oldest)]
    abandoned = [folder for folder in settings.resolved_scratch_dir.glob("upload-*") if _is_older(folder, oldest)]
    for start in range(0, len(attempts), BATCH):
        abandoned += _unheld(factory, attempts[start : start + BATCH])
    for folder in abandoned:
        if not dry_run:
            shutil.rmtree(folder, ignore_errors=True)
    if abandoned and not dry_run:
        log.info("removed abandoned scratch folders", folders=len(abandoned))
    return abandoned


def _unheld(factory: Factory, folders: list[Path]) -> list[Path]:
    with factory.read() as work:
        tokens = steps.running_tokens(work, [folder.name.rpartition("-")[0] for folder in folders])
    held = {attempt_folder(factory.settings, step_id, token) for step_id, token in tokens.items()}
    return [folder for folder in folders if folder not in held]


def _is_older(folder: Path, oldest: float) -> bool:
    """Whether nothing in the folder was written since; a folder's own time tells nothing of what is deeper."""
    with suppress(OSError):
        return folder.is_dir() and all(path.lstat().st_mtime < oldest for path in [folder, *folder.rglob("*")])
    return False
