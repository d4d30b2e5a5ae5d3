"""The key of whoever runs an embedded service: a file that this machine's user alone can read."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import select

from service import api_keys, audit
from service.clock import utc_now
from service.settings import OPERATOR_KEY_FILE, Settings
from service.tables import ApiKey
from service.unit_of_work import Work

NAME = "this machine"


def path(settings: Settings) -> Path:
    """Where the command line on this machine finds the key."""
    return settings.data_dir / OPERATOR_KEY_FILE


def ensure(work: Work) -> None:
    """Make the key and its file unless the file's key opens this workspace; an older one of this name is revoked."""
    file = path(work.settings)
    kept = file.read_text("utf-8").strip() if file.is_file() else ""
    row = api_keys.find(work, kept)
    if row is not None and not api_keys.ended(row):
        return
    older = select(ApiKey).where(ApiKey.name == NAME, ApiKey.revoked_at.is_(None))
    for other in work.session.scalars(older):
        other.revoked_at = utc_now()
    issued = api_keys.create(work, NAME, "admin")
    audit.record_operator(work, "create_api_key", issued.row.id)
    _write(file, issued.key)


def _write(file: Path, key: str) -> None:
    """Replace the file in one go; at no time can others read it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.part")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(f"{key}\n")
        out.flush()
        os.fsync(out.fileno())
    partial.replace(file)
