"""Training a student: distil the dataset, then fine-tune on the few labels; and the honest baseline.

Distilled are soft labels (`label`), the generator's features (`feature`: the backbone only, so that a fine-tune must
follow) or both at once (`mix`); DreamTeacher 3.1 to 3.3, method.md 1.3 to 1.5.
The baseline is the same student with the same initialisation, augmentation, loss and total number of steps, on the few
labels alone. Axes: B batch, C channel, H, W.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from models.augmentation import AugmentConfig, resolve
from models.contracts import ClassSpec, Progress, Stop
from models.distillation import SegmentationObjective
from models.examples import Example
from models.feature_distillation import FeatureObjective, FeatureRegressor, FeatureTeacher, MixObjective
from models.students.batches import DistillationBatches, ExampleBatches, FeatureBatches, SoftDataset, drawn_apart
from models.students.build import stage_channels, student_logits_and_stages, student_stages
from models.students.detector import DetectionObjective
from models.students.instance_network import InstanceObjective
from models.students.logit_adjustment import adjust
from models.students.tasks import label_objective
from models.training import Batches, FitConfig, FitResult, fit, thinned
from models.training_group import ALONE, Group, rows_of

Mode = Literal["label", "feature", "mix"]
Labels = Literal["soft", "hard"]


@dataclass(frozen=True)
class StudentTrainConfig:
    """The student's budget and recipe."""

    mode: Mode = "label"
    """What is distilled: soft labels, the generator's features, or both."""
    steps: int = 1350
    """Optimiser steps of distillation (docs/decisions/0005)."""
    finetune_steps: int = 0
    """Optimiser steps on the few labels afterwards; the baseline gets both."""
    seconds: float | None = None
    """Wall-clock budget for everything instead of steps, shared between the phases as the steps are."""
    batch_size: int = 16
    learning_rate: float = 1.5e-3
    finetune_learning_rate: float = 1.5e-3
    temperature: float = 1.0
    """Softening of teacher and student while distilling (DreamTeacher: 4)."""
    labels: Labels = "soft"
    """What of the dataset's labels is distilled: the distributions, or the most probable class alone, as DatasetGAN and
    DatasetDDPM do."""
    dice_weight: float = 1.0
    """Weight of the Dice term beside cross-entropy."""
    feature_weight: float = 1.0
    """Weight of the feature loss beside the label loss in mode `mix`."""
    attention_weight: float = 10.0
    """Weight of attention transfer beside the squared error within the feature loss."""
    example_share: float = 0.5
    """Share of a distillation batch that is drawn from the few labels; in mode `feature` none is."""
    ema_decay: float = 0.98
    weight_decay: float = 0.02
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def total_steps(self) -> int:
        """Steps of both phases, the baseline's budget."""
        return self.steps + self.finetune_steps

    @property
    def phase_steps(self) -> tuple[int, int]:
        """Steps of (distillation, fine-tune).

        Features alone leave the decoder untrained: where no steps were set aside for it, half of them are.
        """
        if self.mode == "feature" and self.finetune_steps == 0:
            return self.steps // 2, self.steps - self.steps // 2
        return self.steps, self.finetune_steps

    @property
    def loss_weights(self) -> dict[str, float]:
        """Term of the distillation's loss -> weight; `attention` counts within the feature loss."""
        label = {"cross_entropy": 1.0, "dice": self.dice_weight}
        if self.mode == "label":
            return label
        if self.mode == "feature":
            return {"feature": 1.0, "attention": self.attention_weight}
        return {**label, "feature": self.feature_weight, "attention": self.attention_weight}

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"There is no mode {self.mode!r}; there are {', '.join(get_args(Mode))}.")
        if self.labels not in get_args(Labels):
            raise ValueError(f"There are no {self.labels!r} labels; there are {', '.join(get_args(Labels))}.")


def train_student(
    student: nn.Module,
    dataset: SoftDataset,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: StudentTrainConfig,
    *,
    weights: Sequence[float] | None = None,
    teacher: FeatureTeacher | None = None,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
    group: Group = ALONE,
) -> dict[str, Any]:
    """Distil and fine-tune in place.

    Returns `{steps, seconds, augment, mode, loss_weights, curves: {distil, finetune}}` (no finetune without steps for
    it), `labels`, `example_share` and `logit_adjustment` (class -> offset, docs/decisions/0035) where labels are
    distilled, and `feature_timestep` where features are. `weights` are the dataset images' sampling weights. With a
    checkpoint path the run resumes in the phase it was in.
    In a group every process calls this with the same arguments but the device, and learns from its own part of every batch.
    Raises ValueError where the mode needs a teacher and there is none, or one for images of another size, and for a group
    that cannot share out the batch or the network.
    """
    augment = resolve(config.augment, examples, num_classes=len(classes))
    rows = rows_of(group, config.batch_size)
    few = ExampleBatches(examples, classes, augment, config.batch_size, device, rows=rows)
    pool = DistillationBatches(
        dataset,
        None if config.mode == "feature" else few,
        augment,
        batch_size=config.batch_size,
        example_share=config.example_share,
        hard=config.labels == "hard",
        weights=weights,
        device=device,
        rows=rows,
    )
    phases = _phases(student, classes, few, pool, teacher, config, group)
    results: dict[str, FitResult] = {}
    done = 0
    for index, (name, phase) in enumerate(phases.items()):
        path = None if checkpoint_path is None else checkpoint_path.with_suffix(f".{index}.safetensors")
        report = None if progress is None else _shifted(progress, done, config.total_steps)
        results[name] = fit(
            phase.objective,
            drawn_apart(phase.batches, group),
            phase.config,
            device=device,
            progress=report,
            stop=stop,
            checkpoint_path=path,
            group=group,
        )
        done += results[name].steps
    summary = _summary(augment, results) | _recipe(config, phases["distil"].objective, teacher)
    if config.mode != "feature" and group.rank == 0:
        adjusted = adjust(student, dataset, classes, batch_size=config.batch_size, device=device, stop=stop)
        summary |= {} if adjusted is None else {"logit_adjustment": adjusted}
    return summary


@dataclass(frozen=True)
class _Phase:
    """One part of a student's training."""

    config: FitConfig
    batches: Batches
    objective: nn.Module


def _phases(
    student: nn.Module,
    classes: Sequence[ClassSpec],
    few: ExampleBatches,
    pool: DistillationBatches,
    teacher: FeatureTeacher | None,
    config: StudentTrainConfig,
    group: Group,
) -> dict[str, _Phase]:
    """Distillation, then the fine-tune where it has steps."""
    distilled, finetuned = config.phase_steps
    share = distilled / max(1, config.total_steps)
    objective, batches = _distillation(student, classes, pool, teacher, config, group)
    phases = {"distil": _Phase(_fit_config(config, distilled, share, config.learning_rate), batches, objective)}
    if finetuned > 0:
        finetune = _fit_config(config, finetuned, 1 - share, config.finetune_learning_rate)
        on_labels = label_objective(student, classes, dice_weight=config.dice_weight, group=group)
        phases["finetune"] = _Phase(finetune, few, on_labels)
    return phases


def _recipe(config: StudentTrainConfig, objective: nn.Module, teacher: FeatureTeacher | None) -> dict[str, Any]:
    """What was distilled, and how."""
    recipe: dict[str, Any] = {"mode": config.mode, "loss_weights": config.loss_weights}
    if config.mode != "feature":
        recipe |= {"labels": config.labels, "example_share": config.example_share}
    if isinstance(objective, InstanceObjective | DetectionObjective):
        recipe |= {"labels": "hard", "loss_weights": objective.loss_weights}
    if config.mode != "label" and teacher is not None:
        recipe["feature_timestep"] = teacher.tap_timestep
    return recipe


def _distillation(
    student: nn.Module,
    classes: Sequence[ClassSpec],
    pool: DistillationBatches,
    teacher: FeatureTeacher | None,
    config: StudentTrainConfig,
    group: Group,
) -> tuple[nn.Module, Batches]:
    """The first phase's objective and batches."""
    label = label_objective(
        student, classes, dice_weight=config.dice_weight, temperature=config.temperature, group=group
    )
    if config.mode == "label":
        return label, pool
    if teacher is None:
        raise ValueError(f"The mode {config.mode} needs a generator to distil features from.")
    height, width = pool.dataset[0][0].shape[:2]
    teacher.check_size(height, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        regressor = FeatureRegressor(stage_channels(student), dict(teacher.generator.tap_channels))
    feature = FeatureObjective(student, student_stages, regressor, config.attention_weight)
    batches = FeatureBatches(pool, teacher)
    if config.mode == "feature":
        return feature, batches
    if not isinstance(label, SegmentationObjective):
        raise ValueError(
            "A network that finds objects learns labels or features, one after the other: there is no mix of both."
        )
    return MixObjective(label, feature, student_logits_and_stages, config.feature_weight), batches


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
    group: Group = ALONE,
) -> dict[str, Any]:
    """The same student on the few labels alone, with the steps of both phases; returns what `train_student` returns."""
    augment = resolve(config.augment, examples, num_classes=len(classes))
    rows = rows_of(group, config.batch_size)
    few = ExampleBatches(examples, classes, augment, config.batch_size, device, rows=rows)
    result = fit(
        label_objective(student, classes, dice_weight=config.dice_weight, group=group),
        drawn_apart(few, group),
        _fit_config(config, config.total_steps, 1.0, config.learning_rate),
        device=device,
        progress=progress,
        stop=stop,
        checkpoint_path=checkpoint_path,
        group=group,
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
        "curves": {name: thinned(result.curves) for name, result in results.items()},
    }
