"""What a benchmark keeps on disk: one JSON file per finished job, and the ids of what was uploaded."""

import json
from collections.abc import Mapping
from pathlib import Path

from cli.client import CliError, Json


class Record:
    """A folder that grows job by job; every file is written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "jobs").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CliError(f"{error.filename}: {error.strerror}; choose another --out") from None

    def jobs(self) -> dict[str, Json]:
        """Task key -> what is kept of its job: `{job, steps, report}`."""
        return {path.stem: read_json(path) for path in sorted((self.folder / "jobs").glob("*.json"))}

    def keep(self, key: str, job: Mapping[str, object]) -> None:
        """Remember a finished job."""
        write_json(self.folder / "jobs" / f"{key}.json", job)

    def facts(self) -> Json:
        """What the benchmark was begun with."""
        path = self.folder / "benchmark.json"
        return read_json(path) if path.exists() else {}

    def keep_facts(self, facts: Mapping[str, object]) -> None:
        """Remember it."""
        write_json(self.folder / "benchmark.json", facts)


def read_json(path: Path) -> Json:
    """One of the benchmark's own files. Raises `CliError` when it is damaged."""
    try:
        document: Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CliError(f"{path}: cannot be read ({error}); remove it to measure it again") from None
    return document


def write_json(path: Path, document: object) -> None:
    """Whole or not at all, for the next look may come after a kill."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
