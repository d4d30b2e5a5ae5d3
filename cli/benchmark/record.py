"""What a benchmark keeps on disk: one file of everything measured, and beside the service's data the ids that are its own.

The record alone is enough to go on elsewhere: what was measured stays, and only what the rest still needs is made again.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from cli.client import CliError, Json

MEASURED, UPLOADS = "benchmark.json", "service/benchmark.json"


class Record:
    """A folder that grows job by job; every file is written whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "service").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CliError(f"{error.filename}: {error.strerror}; choose another --out") from None

    def jobs(self) -> dict[str, Json]:
        """Task key -> what is kept of its job: `{service, made_by, pools, result, steps, rows, recipe}`."""
        jobs: dict[str, Json] = self._read(MEASURED).get("jobs", {})
        return jobs

    def keep(self, key: str, job: Mapping[str, object]) -> None:
        """Remember a finished job."""
        jobs = {**self.jobs(), key: job}
        self._write(MEASURED, {**self.facts(), "jobs": {key: jobs[key] for key in sorted(jobs)}})

    def facts(self) -> Json:
        """What the benchmark is about and was begun with, wherever it goes on."""
        return {name: value for name, value in self._read(MEASURED).items() if name != "jobs"}

    def keep_facts(self, facts: Mapping[str, object]) -> None:
        """Remember it."""
        self._write(MEASURED, {**facts, "jobs": self.jobs()})

    def uploads(self) -> Json:
        """Ids in the service of this folder; nothing where its data are new, or were left behind."""
        return self._read(UPLOADS)

    def keep_uploads(self, uploads: Mapping[str, object]) -> None:
        """Remember them."""
        self._write(UPLOADS, uploads)

    def _read(self, name: str) -> Json:
        path = self.folder / name
        if not path.exists():
            return {}
        try:
            document: Json = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CliError(f"{path}: cannot be read ({error}); remove it to measure it again") from None
        return document

    def _write(self, name: str, document: object) -> None:
        write_json(self.folder / name, document)


def write_json(path: Path, document: object) -> None:
    """Whole or not at all, for the next look may come after a kill."""
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
