"""A step's checkpoint: a local folder of files, mirrored to the object store so that another machine can go on.

The mirror is a manifest naming one object per file. Only files that changed are sent again; a file that is written
once (a finished batch of a shard) travels once. Objects of a manifest are never overwritten, so that a worker killed
at any moment leaves either the old checkpoint or the new one.
"""

import json
import time
from contextlib import suppress
from pathlib import Path

from service import object_keys, steps
from service.bootstrap import Factory
from service.errors import NotFound, ServiceError
from service.steps import ClaimedStep

UPLOAD_SECONDS = 30.0
"""`save_if_due` sends no more often than this."""


class Checkpoint:
    """The folder a handler keeps its progress in; what stands there at `save` survives this process."""

    def __init__(self, factory: Factory, step: ClaimedStep, folder: Path) -> None:
        self._factory, self._step, self.folder = factory, step, folder
        self._key = step.checkpoint_key
        self._files: dict[str, str] = {}
        self._sent: dict[str, tuple[int, int]] = {}
        self._serial = 0
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        """Bring the files of the last checkpoint here; an empty folder where there is none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._key is None:
            return
        try:
            self._fetch(self._key)
        except NotFound:
            # Without its objects the step begins anew: slower, never wrong.
            self._files, self._sent = {}, {}
            for path in self.folder.iterdir():
                path.unlink()

    def _fetch(self, manifest_key: str) -> None:
        storage = self._factory.storage
        self._files = json.loads(b"".join(storage.get_stream(manifest_key)))
        for name, key in self._files.items():
            with (self.folder / name).open("wb") as file:
                file.writelines(storage.get_stream(key))
            self._sent[name] = _stamp(self.folder / name)

    def save_if_due(self) -> None:
        """`save`, unless that was done a moment ago."""
        if time.monotonic() - self._saved_at >= UPLOAD_SECONDS:
            self.save()

    def save(self) -> None:
        """Send what changed and record the new checkpoint. Raises LeaseLost, StorageFull."""
        self._saved_at = time.monotonic()
        present = {path.name: path for path in sorted(self.folder.iterdir()) if path.suffix != ".partial"}
        changed = {name: path for name, path in present.items() if self._sent.get(name) != _stamp(path)}
        if not changed and set(present) == set(self._files):
            return
        self._serial += 1
        files = {name: key for name, key in self._files.items() if name in present}
        for name, path in changed.items():
            stamp = _stamp(path)
            files[name] = self._put_file(name, path)
            self._sent[name] = stamp
        obsolete = set(self._files.values()) - set(files.values())
        self._record(files)
        self._delete(obsolete)

    def discard(self) -> None:
        """Delete the stored checkpoint of a step that has succeeded."""
        self._delete({*self._files.values(), *([self._key] if self._key else [])})

    def _put_file(self, name: str, path: Path) -> str:
        key = object_keys.step_file(self._step.id, self._step.token, f"checkpoint-{self._serial}-{name}")
        with path.open("rb") as file:
            self._factory.storage.put_stream(key, file)
        return key

    def _record(self, files: dict[str, str]) -> None:
        name = f"checkpoint-{self._serial}.json"
        key = object_keys.step_file(self._step.id, self._step.token, name)
        self._factory.storage.put_stream(key, [json.dumps(files).encode()])
        with self._factory.work() as work:
            former = steps.save_checkpoint(work, self._step.id, self._step.token, key)
        self._key, self._files = key, files
        if former is not None:
            self._delete({former})

    def _delete(self, keys: set[str]) -> None:
        for key in keys:
            with suppress(ServiceError):
                self._factory.storage.delete(key)


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size
