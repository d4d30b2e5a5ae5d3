"""Trains one generator in several processes of this machine, one per accelerator (`models.group_processes`)."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import Tensor

from models.contracts import Progress, Stop
from models.generators.adapters import AdaptersMissing
from models.generators.quality import QualityReport
from models.generators.training import GeneratorTrainConfig, GeneratorTrainResult, load_base, train_generator
from models.generators.watch import OnSamples, OnWarning
from models.group_processes import Asker, Errors, take_part, train_together
from models.peak_memory import PeakMemory
from models.training_group import TrainingGroup

TASK, IMAGES, SAMPLES, GENERATOR = "task.json", "images.npy", "samples.npy", "generator"
"""What lies in the folder: all processes map the images, for shared memory is small in containers."""
ERRORS: Errors = {"AdaptersMissing": AdaptersMissing, "MemoryError": MemoryError, "ValueError": ValueError}
"""What `train_generator` raises."""


@dataclass(frozen=True)
class _Task:
    """What is to be trained."""

    config: GeneratorTrainConfig
    base_folder: Path | None
    checkpoint_path: Path | None


def train_in_group(
    images_BCHW: Tensor,
    config: GeneratorTrainConfig,
    *,
    processes: int,
    folder: Path,
    base_folder: Path | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
    on_samples: OnSamples | None = None,
    on_warning: OnWarning | None = None,
    memory: PeakMemory | None = None,
) -> GeneratorTrainResult:
    """`train_generator` in `processes` processes, which share out every batch; the same result up to rounding.

    `folder` is an empty one for what they share; `memory` is told what they used. Checkpoints are those of one process, and either goes on from the
    other's. Raises what `train_generator` raises, and RuntimeError when a process ended by itself.
    """

    def show(step: int, name: str) -> None:
        if on_samples is not None:
            on_samples(step, torch.from_numpy(np.load(folder / name)))

    def warn(warning: str) -> None:
        if on_warning is not None:
            on_warning(warning)

    np.save(folder / IMAGES, images_BCHW.numpy())
    (folder / TASK).write_bytes(TypeAdapter(_Task).dump_json(_Task(config, base_folder, checkpoint_path)))
    hear: dict[str, Callable[..., None]] = {"samples": show, "warning": warn}
    said = train_together(
        __name__, folder, processes, progress=progress, stop=stop, errors=ERRORS, memory=memory, hear=hear
    )
    return _result(folder, *said)


def _result(
    folder: Path, curves: dict[str, list[float]], quality: dict[str, Any] | None, warnings: list[str]
) -> GeneratorTrainResult:
    report = None if quality is None else TypeAdapter(QualityReport).validate_python(quality)
    samples_BCHW = torch.from_numpy(np.load(folder / SAMPLES))
    return GeneratorTrainResult(load_base(folder / GENERATOR), samples_BCHW, curves, report, warnings)


def _train(folder: Path, group: TrainingGroup, asker: Asker) -> None:
    """What each process does; the leader alone has something to say, unless something is wrong."""
    task = TypeAdapter(_Task).validate_json((folder / TASK).read_bytes())

    def show(step: int, samples_BCHW: Tensor) -> None:
        name = f"samples-{step}.npy"
        np.save(folder / name, samples_BCHW.numpy())
        asker.tell("samples", step, name)

    result = train_generator(
        torch.from_numpy(np.load(folder / IMAGES, mmap_mode="c")),
        task.config,
        base=None if task.base_folder is None else load_base(task.base_folder, group.device),
        device=group.device,
        checkpoint_path=task.checkpoint_path,
        on_samples=show,
        on_warning=lambda warning: asker.tell("warning", warning),
        group=group,
        **asker.hooks(),
    )
    if group.rank == 0:
        result.generator.save(folder / GENERATOR)
        np.save(folder / SAMPLES, result.samples_BCHW.numpy())
        quality = None if result.quality is None else asdict(result.quality)
        asker.done(result.curves, quality, result.warnings)


if __name__ == "__main__":
    take_part(_train, ERRORS)
