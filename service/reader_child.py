"""`python -m service.reader_child FOLDER`: reads one upload within limits and ends; started by `reader_process`.

Answers in files of the folder, never by pickle: what broke this process must not speak to the next one.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from service.errors import Invalid
from service.formats import archive
from service.formats.limits import MIB, UploadLimits
from service.upload_reading import AnnotationRequest, write_annotated_tar, write_pool_tar

TASK_FILE, ANSWER_FILE, PLACE_FILE, LOG_FILE = "task.json", "answer.json", "reading.txt", "reader.log"
#: Exit codes without an answer: the number of the error.
OUT_OF_MEMORY, DISK_FULL = errno.ENOMEM, errno.ENOSPC
#: Given back when memory runs out, for an orderly end.
RESERVE_BYTES = 8 * MIB


def main() -> None:
    """Read what the task names; the exit code is 0 when there is an answer, also a refusal."""
    folder = Path(sys.argv[1])
    task = json.loads((folder / TASK_FILE).read_bytes())
    _limit(**task["reader"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _say_places(folder / PLACE_FILE)
    reserve = [bytes(RESERVE_BYTES)]
    try:
        answer = _answer(task)
    except MemoryError:
        reserve.clear()
        os._exit(OUT_OF_MEMORY)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            os._exit(DISK_FULL)
        raise
    (folder / ANSWER_FILE).write_text(json.dumps(answer))


def _answer(task: dict[str, Any]) -> dict[str, Any]:
    zip_path, tar, limits = Path(task["zip"]), Path(task["tar"]), UploadLimits(**task["limits"])
    try:
        if task["request"] is None:
            return {"read": asdict(write_pool_tar(zip_path, tar, limits))}
        return {"read": asdict(write_annotated_tar(zip_path, tar, AnnotationRequest(**task["request"]), limits))}
    except Invalid as refusal:
        return {"refused": {"detail": refusal.detail, "errors": refusal.errors}}


def _limit(memory_bytes: int, cpu_seconds: int) -> None:
    """No core files, so much memory and processor time; where memory runs out, this process goes first."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # With one number for both, the kernel would kill without the signal that tells why.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def _say_places(path: Path) -> None:
    """Keep the name of the file that is being read, which has no line break, in the first line of `path`."""
    out = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    archive.on_read.set(lambda name: os.pwrite(out, f"{name}\n".encode("utf-8", "replace"), 0))


if __name__ == "__main__":
    main()
