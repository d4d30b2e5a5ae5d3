"""Several processes train what one would, and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from models.contracts import Stopped
from models.generators.group_training import train_in_group
from models.generators.training import GeneratorTrainResult, train_generator
from tests.models.generators.test_training import CONFIG, stripes


def members_of(folder: Path) -> list[int]:
    """Processes that train in this folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().split(b"\0")[1:4] == [b"-m", b"models.generators.group_training", bytes(folder)]:
                found.append(int(path.parent.name))
    return found


def weights(result: GeneratorTrainResult) -> dict[str, Tensor]:
    return dict(result.generator.denoiser.state_dict())


def distance(one: GeneratorTrainResult, other: GeneratorTrainResult) -> float:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    return sum(float((mine[name] - theirs[name]).square().sum()) for name in mine) ** 0.5


def assert_nearly_equal(one: GeneratorTrainResult, other: GeneratorTrainResult) -> None:
    """As far apart as bfloat16's rounding, magnified where Adam divides by tiny gradients, explains."""
    begun = train_generator(stripes(32), replace(CONFIG, steps=1, learning_rate=1e-12))
    assert distance(one, other) < distance(one, begun) / 4


@pytest.fixture(scope="module")
def alone() -> GeneratorTrainResult:
    return train_generator(stripes(32), CONFIG)


@pytest.mark.timeout(300)
def test_two_processes_learn_what_one_does_and_report_once(tmp_path: Path, alone: GeneratorTrainResult) -> None:
    reports: list[tuple[int, Mapping[str, float]]] = []
    sheets: list[tuple[int, tuple[int, ...]]] = []
    together = train_in_group(
        stripes(32),
        CONFIG,
        processes=2,
        folder=tmp_path,
        progress=lambda done, _total, metrics: reports.append((done, metrics)),
        on_samples=lambda step, images_BCHW: sheets.append((step, tuple(images_BCHW.shape))),
    )
    assert_nearly_equal(together, alone)
    assert together.curves["loss"] == pytest.approx(alone.curves["loss"], rel=2e-3), "losses of whole batches"
    assert [done for done, _ in reports] == [3, 6, 9, 12]
    assert sheets == [(3, (2, 3, 16, 16)), (6, (2, 3, 16, 16)), (12, (2, 3, 16, 16))]
    assert together.samples_BCHW.shape == alone.samples_BCHW.shape
    assert together.generator.facts.training["holdout_images"] == alone.generator.facts.training["holdout_images"]
    assert not members_of(tmp_path)


@pytest.mark.timeout(300)
def test_a_stopped_group_leaves_a_checkpoint_from_which_one_process_goes_on(
    tmp_path: Path, alone: GeneratorTrainResult
) -> None:
    checkpoint = tmp_path / "generator.safetensors"
    seen: list[int] = []
    with pytest.raises(Stopped):
        train_in_group(
            stripes(32),
            CONFIG,
            processes=2,
            folder=tmp_path,
            progress=lambda done, _total, _metrics: seen.append(done),
            stop=lambda: len(seen) > 0,
            checkpoint_path=checkpoint,
        )
    assert not members_of(tmp_path)
    assert seen[-1] < 12
    assert_nearly_equal(train_generator(stripes(32), CONFIG, checkpoint_path=checkpoint), alone)


@pytest.mark.timeout(300)
def test_a_process_that_is_killed_ends_the_training_and_all_others(tmp_path: Path) -> None:
    def kill_one(done: int, _total: int, _metrics: Mapping[str, float]) -> None:
        if done == 3:
            os.kill(max(members_of(tmp_path)), signal.SIGKILL)

    with pytest.raises(RuntimeError):
        train_in_group(stripes(32), replace(CONFIG, steps=10_000), processes=2, folder=tmp_path, progress=kill_one)
    assert not members_of(tmp_path)


@pytest.mark.timeout(300)
def test_what_is_wrong_with_a_task_is_said_as_by_one_process(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be shared out evenly"):
        train_in_group(stripes(32), replace(CONFIG, batch_size=5), processes=2, folder=tmp_path)


WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
from models.generators.group_training import train_in_group
from tests.models.generators.test_training import CONFIG, stripes

def tell(done, total, metrics):
    print("training", flush=True)

if __name__ == "__main__":
    config = replace(CONFIG, steps=100_000)
    train_in_group(stripes(32), config, processes=2, folder=Path(sys.argv[1]), progress=tell)
"""


@pytest.mark.timeout(300)
def test_when_the_worker_is_killed_its_processes_end(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "training\n"
        assert len(members_of(tmp_path)) == 2
        worker.kill()
    deadline = time.monotonic() + 20
    while members_of(tmp_path):
        assert time.monotonic() < deadline, "they train on, and nobody knows of them"
        time.sleep(0.1)
