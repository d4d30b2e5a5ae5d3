"""The child that reads uploads: what ends it is a refusal that names the file, and the service goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from service.errors import Invalid, StorageFull
from service.formats.limits import MIB
from service.reader_child import PLACE_FILE
from service.reader_process import Reader
from service.settings import Settings
from service.upload_reading import AnnotationRequest
from tests.api.archives import encoded, mask_files, photo, zipped


def pool_zip(folder: Path, count: int = 3) -> Path:
    path = folder / "body.zip"
    path.write_bytes(zipped({f"{number}.png": photo(number) for number in range(count)}))
    return path


@cache
def large_image() -> bytes:
    return encoded(Image.linear_gradient("L").resize((3_000, 3_000)).convert("RGB"), compress_level=1)


def large_zip(folder: Path, count: int) -> Path:
    """Images that are small to send and take long to read."""
    path = folder / "body.zip"
    path.write_bytes(zipped({f"{number}.png": large_image() for number in range(count)}))
    return path


def refusal(reader: Reader, zip_path: Path) -> dict[str, str]:
    """The one fault of the refusal that reading must end in."""
    with pytest.raises(Invalid) as caught:
        reader.pool_tar(zip_path, reader.folder / "images.tar")
    assert len(caught.value.errors) == 1
    return caught.value.errors[0]


def environment() -> dict[str, str]:
    """For a process that runs the code under test."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def child_of(parent: int) -> int:
    """The id of the reading child of that process, once it runs."""
    for _ in range(1_200):
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # processes come and go
                is_reader = b"service.reader_child" in (path / "cmdline").read_bytes().split(b"\0")
                if is_reader and f"\nPPid:\t{parent}\n" in (path / "status").read_text():
                    return int(path.name)
        time.sleep(0.02)
    raise AssertionError("no child began")


def test_a_sound_zip_is_read(settings: Settings, tmp_path: Path) -> None:
    found = Reader(tmp_path, settings).pool_tar(pool_zip(tmp_path), tmp_path / "images.tar")
    assert (found.num_images, found.image_height) == (3, 16)


def test_refusals_keep_their_places(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "body.zip"
    path.write_bytes(zipped({**mask_files(), "images/1.png": b"no image"}))
    with pytest.raises(Invalid) as caught:
        Reader(tmp_path, settings).annotated_tar(path, tmp_path / "a.tar", AnnotationRequest("x", classes=["a", "b"]))
    assert [error["place"] for error in caught.value.errors] == ["images/1.png"]


def test_too_much_memory_is_a_refusal_that_names_the_file(settings: Settings, tmp_path: Path) -> None:
    small = settings.model_copy(update={"max_reader_memory_bytes": 160 * MIB})
    fault = refusal(Reader(tmp_path, small), large_zip(tmp_path, 1))
    assert fault["place"] == "0.png"
    assert "160 MiB" in fault["message"]


def test_too_much_time_is_a_refusal_that_names_the_file(settings: Settings, tmp_path: Path) -> None:
    short = settings.model_copy(update={"max_reader_cpu_seconds": 1})
    fault = refusal(Reader(tmp_path, short), large_zip(tmp_path, 40))
    assert fault["place"].endswith(".png")
    assert "1 seconds of processor time" in fault["message"]


@pytest.mark.parametrize(("number", "message"), [(signal.SIGSEGV, "breaks"), (signal.SIGKILL, "memory")])
def test_a_crash_is_a_refusal_that_names_the_file(
    settings: Settings, tmp_path: Path, number: signal.Signals, message: str
) -> None:
    zip_path = large_zip(tmp_path, 40)

    def crash() -> None:
        child = child_of(os.getpid())
        while not (tmp_path / PLACE_FILE).exists() or not (tmp_path / PLACE_FILE).read_bytes():
            time.sleep(0.01)
        os.kill(child, number)

    thread = threading.Thread(target=crash)
    thread.start()
    fault = refusal(Reader(tmp_path, settings), zip_path)
    thread.join()
    assert fault["place"].endswith(".png")
    assert message in fault["message"]


def test_a_full_disk_is_no_fault_of_the_upload(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(StorageFull):
        Reader(tmp_path, settings).pool_tar(pool_zip(tmp_path), Path("/dev/full"))


def test_the_child_knows_no_variable_of_ours(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_FACTORY_S3_SECRET_ACCESS_KEY", "hidden")
    seen: list[bytes] = []
    thread = threading.Thread(target=lambda: seen.append(Path(f"/proc/{child_of(os.getpid())}/environ").read_bytes()))
    thread.start()
    Reader(tmp_path, settings).pool_tar(large_zip(tmp_path, 10), tmp_path / "images.tar")
    thread.join()
    assert b"PYTHONPATH" in seen[0]
    assert b"hidden" not in seen[0]


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    """Even a parent that is killed leaves nobody behind who works on."""
    large_zip(tmp_path, 40)
    program = (
        "import sys; from pathlib import Path; from service.reader_process import Reader; "
        "from service.settings import Settings; folder = Path(sys.argv[1]); "
        "Reader(folder, Settings()).pool_tar(folder / 'body.zip', folder / 'images.tar')"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], env=environment()) as parent:
        child = child_of(parent.pid)
        parent.kill()
    for _ in range(600):
        if not Path(f"/proc/{child}").exists():
            return
        time.sleep(0.05)
    raise AssertionError("the child works on")


def test_the_child_starts_without_what_it_does_not_need() -> None:
    """Each upload pays for the child's start."""
    unwanted = "('sqlalchemy', 'pydantic', 'scipy', 'torch', 'structlog')"
    program = f"import sys, service.reader_child; print([name for name in {unwanted} if name in sys.modules])"
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"
