"""A whole benchmark of a tiny pack, as a user runs it: cut by kill -9 in the middle, then run again."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiny

ROWS = "few,few_long,label_encoded,head"
KILLED_AFTER = 1
"""Jobs that are finished when the benchmark is killed."""


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def annotated_zip(path: Path, first: int, count: int) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(first, first + count):
            image_HWC, label_HW = tiny.disc(index)
            archive.writestr(f"images/{index:04}.png", png(image_HWC))
            archive.writestr(f"masks/{index:04}.png", png(label_HW))
        archive.writestr("classes.json", json.dumps(["background", "disc"]))


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "discs"
    folder.mkdir()
    (folder / "pack.json").write_text(json.dumps({"name": "discs", "classes": ["background", "disc"]}))
    annotated_zip(folder / "few.zip", 0, 4)
    annotated_zip(folder / "test.zip", 50, 3)
    with zipfile.ZipFile(folder / "unlabelled.zip", "w") as archive:
        for index in range(6):
            archive.writestr(f"images/{index:04}.png", png(tiny.disc(100 + index)[0]))
    tiny.generator_folder(folder / "generators")
    return folder


def command(pack: Path, out: Path, rows: str = ROWS) -> list[str]:
    budget = ["--student-steps", "2", "--head-steps", "2", "--images", "3", "--seeds", "1"]
    options = ["--labels", "2", "--rows", rows, "--workers", "2"]
    return [sys.executable, "-m", "cli.app", "benchmark", str(pack), "--out", str(out), *budget, *options]


def kept_jobs(out: Path) -> dict[str, Any]:
    path = out / "benchmark.json"
    jobs: dict[str, Any] = json.loads(path.read_text()).get("jobs", {}) if path.exists() else {}
    return jobs


def wait_for_jobs(out: Path, process: subprocess.Popen[bytes], count: int) -> None:
    deadline = time.monotonic() + 150
    while len(kept_jobs(out)) < count:
        assert process.poll() is None, "the benchmark ended before it was killed"
        assert time.monotonic() < deadline, "no job finished"
        time.sleep(0.1)


def run_to_its_end(command: list[str], environment: dict[str, str]) -> None:
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_benchmark_that_was_killed_goes_on_and_measures_every_row(pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command(pack, out), env=environment, start_new_session=True)
    try:
        wait_for_jobs(out, first, KILLED_AFTER)
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    kept = kept_jobs(out)
    run_to_its_end(command(pack, out), environment)
    after = kept_jobs(out)
    assert {key: after[key] for key in kept} == kept, "what was measured is not measured again"
    results = json.loads((out / "results.json").read_text())
    measured = {(row["row"], row["labels"]) for row in results["rows"]}
    assert measured == {(row, 2) for row in ROWS.split(",")} | {("few", 4), ("few_long", 4)}
    assert all(0 <= row["miou_mean"] <= 1 and row["seconds"] > 0 for row in results["rows"])
    assert results["whole_budget_steps"] >= 2
    page = (out / "README.md").read_text()
    assert "| ours: label, encoded pool |" in page
    for name in ("miou.png", "classes.png", "cost.png"):
        assert (out / name).stat().st_size > 1_000
    # Somewhere else, with nothing but the record: a new row needs the dataset again, and nothing besides.
    shutil.rmtree(out / "service")
    run_to_its_end(command(pack, out, "few,mix_encoded"), environment)
    elsewhere = kept_jobs(out)
    assert {key for key in elsewhere if elsewhere[key] != after.get(key)} == {"n2-s0-data-ours", "n2-s0-mix-encoded"}
    measured = {(row["row"], row["labels"]) for row in json.loads((out / "results.json").read_text())["rows"]}
    assert measured >= {("label_encoded", 2), ("mix_encoded", 2)}, "rows of both runs"
