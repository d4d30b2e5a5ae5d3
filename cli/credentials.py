"""Which API key goes to which service: the caller's own words first, then what a service on this machine left for its user."""

import os
import re
from contextlib import suppress
from pathlib import Path

import typer

from service.settings import OPERATOR_KEY_FILE

KEY_VARIABLE = "LABEL_FACTORY_API_KEY"
FILE_VARIABLE = "LABEL_FACTORY_API_KEY_FILE"


def find_key(url: str) -> str | None:
    """The key to show to the service at `url`; None where there is none. Raises OSError for a named file that cannot be read."""
    if key := os.environ.get(KEY_VARIABLE):
        return key.strip()
    if named := os.environ.get(FILE_VARIABLE):
        return read_key(Path(named))
    with suppress(OSError):
        return read_key(Path(_note(url).read_text(encoding="utf-8").strip()))
    return None


def read_key(file: Path) -> str:
    """The key in a file. Raises OSError."""
    return file.read_text(encoding="utf-8").strip()


def remember(url: str, data: Path) -> None:
    """Let this user's other commands find the key of the service at `url`, which keeps it in its data folder."""
    file = (data / OPERATOR_KEY_FILE).resolve()
    with suppress(OSError):  # a home that cannot be written: the key must be named by hand
        _note(url).parent.mkdir(parents=True, exist_ok=True)
        _note(url).write_text(f"{file}\n", encoding="utf-8")


def forget(url: str) -> None:
    """The service is gone: whoever listens there next must not be shown its key."""
    with suppress(OSError):
        _note(url).unlink()


def _note(url: str) -> Path:
    """A file per service, which names the file of its key."""
    return Path(typer.get_app_dir("label-factory")) / "services" / re.sub(r"[^A-Za-z0-9.]+", "_", url)
