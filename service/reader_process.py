"""Strangers' files are opened in a child with limits of its own: memory, processor time, none of the service's secrets.

A zip, image or annotation that needs too much, or breaks a decoder, ends the child and not the service. Both speak
through files in the upload's scratch folder; the child's answer is checked like any other input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import TypeAdapter

from service.errors import Invalid, StorageFull, fault
from service.formats.limits import MIB, UploadLimits
from service.formats.problems import printable
from service.reader_child import ANSWER_FILE, DISK_FULL, LOG_FILE, OUT_OF_MEMORY, PLACE_FILE, TASK_FILE
from service.settings import Settings
from service.upload_reading import AnnotatedTar, AnnotationRequest, PoolTar

log: structlog.stdlib.BoundLogger = structlog.get_logger("reader")

MAX_ANSWER_BYTES = 256 * MIB
MAX_LOG_BYTES = 4_000

Result = TypeVar("Result", AnnotatedTar, PoolTar)


@dataclass(frozen=True)
class Refusal:
    """Why the child refused the upload."""

    detail: str
    """The sentence."""
    errors: list[dict[str, str]]
    """Every place and what is wrong there."""


@dataclass(frozen=True)
class Reader:
    """Reads one upload in a child."""

    folder: Path
    """The upload's own folder in scratch, for what parent and child say."""
    settings: Settings
    """All limits."""

    def annotated_tar(self, zip_path: Path, tar: Path, request: AnnotationRequest) -> AnnotatedTar:
        """`write_annotated_tar` in the child. Raises Invalid, StorageFull."""
        return self._read(AnnotatedTar, zip_path, tar, self._limits(self.settings.max_annotation_images), request)

    def pool_tar(self, zip_path: Path, tar: Path) -> PoolTar:
        """`write_pool_tar` in the child. Raises Invalid, StorageFull."""
        return self._read(PoolTar, zip_path, tar, self._limits(self.settings.max_archive_members), None)

    def _limits(self, max_images: int) -> UploadLimits:
        settings = self.settings
        return UploadLimits(
            max_entries=settings.max_archive_members,
            max_total_bytes=settings.max_inflated_bytes,
            max_ratio=int(settings.max_archive_ratio),
            max_image_pixels=settings.max_image_pixels,
            max_classes=settings.max_classes,
            max_images=max_images,
        )

    def _read(
        self, kind: type[Result], zip_path: Path, tar: Path, limits: UploadLimits, request: AnnotationRequest | None
    ) -> Result:
        reader = {
            "memory_bytes": self.settings.max_reader_memory_bytes,
            "cpu_seconds": self.settings.max_reader_cpu_seconds,
        }
        task = {
            "zip": str(zip_path.absolute()),
            "tar": str(tar.absolute()),
            "limits": asdict(limits),
            "request": None if request is None else asdict(request),
            "reader": reader,
        }
        (self.folder / TASK_FILE).write_text(json.dumps(task))
        code = _run(self.folder)
        if code == DISK_FULL:
            raise StorageFull("The disk for uploads is full; send it again when there is room.")
        path = self.folder / ANSWER_FILE
        if code != 0 or path.stat().st_size > MAX_ANSWER_BYTES:
            raise self._ended(code)
        return _result(kind, path.read_bytes())

    def _ended(self, code: int) -> Invalid:
        """The refusal of an upload whose child came to an end; names the file that it was reading."""
        message = "breaks the program that reads it"
        if code == OUT_OF_MEMORY:
            mib = self.settings.max_reader_memory_bytes // MIB
            message = f"needs more than the {mib:,} MiB of memory that reading an upload may take"
        elif code == -signal.SIGXCPU:
            seconds = self.settings.max_reader_cpu_seconds
            message = f"is where the {seconds:,} seconds of processor time were used up that reading an upload may take"
        elif code == -signal.SIGKILL:
            message = "needs more memory than the machine has left, or somebody ended the program that reads it"
        place = _tail(self.folder / PLACE_FILE).partition("\n")[0]
        log.error("reader ended", place=place, code=code, said=_tail(self.folder / LOG_FILE))
        return Invalid(
            "The upload cannot be read, nothing was stored.", [fault(printable(place) or "archive", message)]
        )


def _run(folder: Path) -> int:
    """The child's exit code. The child ends when its standard input does, so with this process at the latest."""
    command = [sys.executable, "-P", "-m", "service.reader_child", str(folder.absolute())]
    # None of our variables, some of which are secrets; one thread, since more would only take address space.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **threads}
    with (
        (folder / LOG_FILE).open("wb") as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=said, stderr=said, env=environment, start_new_session=True
        ) as child,
    ):
        return child.wait()


def _tail(path: Path) -> str:
    with suppress(OSError):
        return path.read_bytes()[-MAX_LOG_BYTES:].decode("utf-8", "replace")
    return ""


def _result(kind: type[Result], answer: bytes) -> Result:
    document = json.loads(answer)
    if "refused" in document:
        refusal = TypeAdapter(Refusal).validate_python(document["refused"])
        raise Invalid(refusal.detail, refusal.errors)
    found: Result = TypeAdapter(kind).validate_python(document["read"])
    return found
