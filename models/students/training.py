"""Training a student: distil the dataset's soft labels, then fine-tune on the few labels; and the honest baseline.

The baseline is the same student with the same initialisation, augmentation, loss and total number of steps, on the few
labels alone. Axes: B batch, C channel, H, W.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.augmentation import AugmentConfig, resolve
from models.contracts import ClassSpec, Progress, Stop
from models.distillation import SegmentationObjective
from models.examples import Example
from models.students.batches import DistillationBatches, ExampleBatches, SoftDataset
from models.students.build import student_logits
from models.training import Batches, FitConfig, FitResult, fit


@dataclass(frozen=True)
class StudentTrainConfig:
    """The student's budget and recipe."""

    steps: int = 450
    """Optimiser steps of distillation."""
    finetune_steps: int = 0
    """Optimiser steps on the few labels afterwards; the baseline gets both."""
    seconds: float | None = None
    """Wall-clock budget for everything instead of steps, shared between the phases as the steps are."""
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    finetune_learning_rate: float = 1.5e-3
    temperature: float = 1.0
    """Softening of teacher and student while distilling (DreamTeacher: 4)."""
    dice_weight: float = 1.0
    """Weight of the Dice term beside cross-entropy."""
    example_share: float = 0.5
    """Share of a distillation batch that is drawn from the few labels."""
    ema_decay: float = 0.98
    weight_decay: float = 0.02
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def total_steps(self) -> int:
        """Steps of both phases, the baseline's budget."""
        return self.steps + self.finetune_steps


def train_student(
    student: nn.Module,
    dataset: SoftDataset,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: StudentTrainConfig,
    *,
    weights: Sequence[float] | None = None,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
) -> dict[str, Any]:
    """Distil and fine-tune in place; returns `{steps, seconds, augment, curves: {distil, finetune}}` (no finetune without steps for it).

    `weights` are the dataset images' sampling weights. With a checkpoint path the run resumes in the phase it was in.
    """
    augment = resolve(config.augment, examples, num_classes=len(classes))
    few = ExampleBatches(examples, classes, augment, config.batch_size, device)
    pool = DistillationBatches(
        dataset,
        few,
        augment,
        batch_size=config.batch_size,
        example_share=config.example_share,
        weights=weights,
        device=device,
    )
    share = config.steps / max(1, config.total_steps)
    phases: dict[str, tuple[FitConfig, Batches, float]] = {
        "distil": (_fit_config(config, config.steps, share, config.learning_rate), pool, config.temperature)
    }
    if config.finetune_steps > 0:
        finetune = _fit_config(config, config.finetune_steps, 1 - share, config.finetune_learning_rate)
        phases["finetune"] = (finetune, few, 1.0)
    results: dict[str, FitResult] = {}
    done = 0
    for index, (phase, (fit_config, batches, temperature)) in enumerate(phases.items()):
        objective = SegmentationObjective(
            student, student_logits, temperature=temperature, dice_weight=config.dice_weight
        )
        path = None if checkpoint_path is None else checkpoint_path.with_suffix(f".{index}.safetensors")
        report = None if progress is None else _shifted(progress, done, config.total_steps)
        results[phase] = fit(
            objective, batches, fit_config, device=device, progress=report, stop=stop, checkpoint_path=path
        )
        done += results[phase].steps
    return _summary(augment, results)


def train_baseline(
    student: nn.Module,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: StudentTrainConfig,
    *,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
) -> dict[str, Any]:
    """The same student on the few labels alone, with the steps of both phases; returns what `train_student` returns."""
    augment = resolve(config.augment, examples, num_classes=len(classes))
    few = ExampleBatches(examples, classes, augment, config.batch_size, device)
    objective = SegmentationObjective(student, student_logits, dice_weight=config.dice_weight)
    fit_config = _fit_config(config, config.total_steps, 1.0, config.learning_rate)
    result = fit(
        objective, few, fit_config, device=device, progress=progress, stop=stop, checkpoint_path=checkpoint_path
    )
    return _summary(augment, {"baseline": result})


def _fit_config(config: StudentTrainConfig, steps: int, share: float, learning_rate: float) -> FitConfig:
    base = FitConfig(
        steps=steps,
        learning_rate=learning_rate,
        weight_decay=config.weight_decay,
        ema_decay=config.ema_decay,
        seed=config.seed,
    )
    return base if config.seconds is None else replace(base, steps=None, seconds=config.seconds * share)


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    def report(done: int, _phase_total: int, metrics: Mapping[str, float]) -> None:
        progress(before + done, max(total, before + done), metrics)

    return report


def _summary(augment: AugmentConfig, results: dict[str, FitResult]) -> dict[str, Any]:
    return {
        "steps": sum(result.steps for result in results.values()),
        "seconds": sum(result.seconds for result in results.values()),
        "augment": {"horizontal_flip": augment.horizontal_flip, "vertical_flip": augment.vertical_flip},
        "curves": {name: result.curves for name, result in results.items()},
    }
