"""Trains one student, or its baseline, in several processes of this machine (`models.group_processes`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import nn

from models.contracts import ClassSpec, Progress, Stop
from models.examples import Example
from models.feature_distillation import FeatureTeacher
from models.group_processes import Asker, Errors, take_part, train_together
from models.peak_memory import PeakMemory
from models.students.card import load_student, save_student
from models.students.training import StudentTrainConfig, train_baseline, train_student
from models.training_group import TrainingGroup
from workers.soft_dataset import LocalSoftDataset

TASK, FEW, WEIGHTS, UNTRAINED, TRAINED, TEACHER = (
    "task.json",
    "few.npz",
    "weights.npy",
    "untrained",
    "trained.safetensors",
    "teacher",
)
"""What lies in the folder."""
ERRORS: Errors = {"MemoryError": MemoryError, "ValueError": ValueError}
"""What a training raises."""


@dataclass(frozen=True)
class _Task:
    """What is to be trained."""

    config: StudentTrainConfig
    classes: list[ClassSpec]
    checkpoint_path: Path
    dataset_folder: Path | None = None
    """None: on the few labels alone."""
    teacher_timestep: int | None = None
    """None: no features are distilled."""


def train_student_in_group(
    student: nn.Module,
    dataset: LocalSoftDataset | None,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: StudentTrainConfig,
    *,
    processes: int,
    folder: Path,
    weights: Sequence[float] = (),
    teacher: FeatureTeacher | None = None,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path,
    memory: PeakMemory | None = None,
) -> dict[str, Any]:
    """`train_student`, or `train_baseline` where there is no dataset, in `processes` processes that share out every batch.

    Each draws its own part of a batch. `folder` is an empty one for what they share; `memory` is told what they used.
    Checkpoints are those of one process, and either goes on from the other's. Raises what these raise, and RuntimeError
    when a process ended by itself.
    """
    save_student(student, folder / UNTRAINED, {})
    instances = [example.instances_HW for example in examples if example.instances_HW is not None]
    few = {
        "images": np.stack([example.image_HWC for example in examples]),
        "labels": np.stack([example.label_HW for example in examples]),
        "instances": np.stack(instances) if instances else np.zeros(0),
    }
    np.savez(folder / FEW, allow_pickle=False, **few)
    np.save(folder / WEIGHTS, np.asarray(weights, dtype=np.float64))
    if teacher is not None:
        teacher.generator.save(folder / TEACHER)
    task = _Task(
        config,
        list(classes),
        checkpoint_path,
        None if dataset is None else dataset.folder,
        None if teacher is None else teacher.tap_timestep,
    )
    (folder / TASK).write_bytes(TypeAdapter(_Task).dump_json(task))
    (summary,) = train_together(__name__, folder, processes, progress=progress, stop=stop, errors=ERRORS, memory=memory)
    student.load_state_dict(load_file(folder / TRAINED))
    student.eval()
    found: dict[str, Any] = summary
    return found


def _examples(path: Path) -> list[Example]:
    with np.load(path) as few:
        images, labels, instances = few["images"], few["labels"], few["instances"]
        return [
            Example(images[index], labels[index], instances[index] if len(instances) else None)
            for index in range(len(images))
        ]


def _train(folder: Path, group: TrainingGroup, asker: Asker) -> None:
    """What each process does; the leader alone has something to say, unless something is wrong."""
    task = TypeAdapter(_Task).validate_json((folder / TASK).read_bytes())
    student = load_student(folder / UNTRAINED).to(memory_format=torch.channels_last)
    common: dict[str, Any] = {
        "device": group.device,
        "checkpoint_path": task.checkpoint_path,
        "group": group,
        **asker.hooks(),
    }
    few = _examples(folder / FEW)
    if task.dataset_folder is None:
        summary = train_baseline(student, few, task.classes, task.config, **common)
    else:
        dataset = LocalSoftDataset(task.dataset_folder)
        weights = np.load(folder / WEIGHTS).tolist()
        teacher = None
        if task.teacher_timestep is not None:
            from models.generators.families import load_source  # noqa: PLC0415 - takes seconds

            teacher = FeatureTeacher(load_source(folder / TEACHER, group.device), task.teacher_timestep)
        summary = train_student(
            student, dataset, few, task.classes, task.config, weights=weights, teacher=teacher, **common
        )
    if group.rank == 0:
        trained = {name: value.cpu().contiguous() for name, value in student.state_dict().items()}
        save_file(trained, folder / TRAINED)
        asker.done(summary)


if __name__ == "__main__":
    take_part(_train, ERRORS)
