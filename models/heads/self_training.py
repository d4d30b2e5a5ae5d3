"""Self-training: a few student networks trained on the annotated images alone label all others. No generator is used.

What semi-supervised learning calls a teacher of pseudo-labels; here K of them with different seeds, whose mean is the
soft label and whose disagreement the uncertainty, so that only where the labels come from differs from a head's.
Axes: B batch, C channel, H, W, K members.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from models.augmentation import AugmentConfig, mirrors, resolve
from models.contracts import ClassSpec, FeatureSource, NotOffered, Progress, Stop
from models.examples import Example, to_float_images
from models.heads.fusion import CONFIG
from models.labelling import FittedHead
from models.students.build import build_student, num_parameters, student_logits
from models.students.card import load_student
from models.students.training import StudentTrainConfig, train_baseline


@dataclass(frozen=True)
class SelfTrainConfig:
    """Which network, how many of them, and for how long; the defaults are a student's."""

    architecture: str = "upernet_textnet"
    first_stride: int | None = None
    """Stride of the first stage; None = by the images' size."""
    weights: Path | None = None
    """Directory that every member's backbone starts from; None = afresh."""
    members: int = 3
    steps: int = StudentTrainConfig().total_steps
    """Optimiser steps of every member."""
    batch_size: int = StudentTrainConfig.batch_size
    learning_rate: float = StudentTrainConfig.learning_rate
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0

    def of_member(self, member: int) -> StudentTrainConfig:
        """The training of one member; no seed is used twice over jobs with seeds 0, 1, 2, ..."""
        return StudentTrainConfig(
            steps=self.steps,
            finetune_steps=0,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            augment=self.augment,
            seed=self.seed * self.members + member,
        )


class SelfTrainedStudents:
    """Implements `models.labelling.Labeller`."""

    kind = "student"
    title = "Ensemble of students, few labels only"

    def __init__(
        self,
        students: Sequence[nn.Module],
        classes: Sequence[ClassSpec],
        *,
        mirror: bool,
        upside_down: bool,
        device: torch.device | str,
    ) -> None:
        self.students = [student.to(device).eval() for student in students]
        self.mirror, self.upside_down, self.device = mirror, upside_down, torch.device(device)
        self._classes = tuple(classes)

    @classmethod
    def load(cls, directory: Path, generator: FeatureSource | None, device: torch.device | str = "cpu") -> Self:
        """Reads what `save` wrote; a generator is not used."""
        del generator
        said = json.loads((directory / CONFIG).read_text())
        students = [load_student(_folder(directory, member)) for member in range(said["members"])]
        classes = [ClassSpec(**spec) for spec in said["classes"]]
        return cls(students, classes, mirror=said["mirror"], upside_down=said.get("upside_down", False), device=device)

    def save(self, directory: Path) -> None:
        """Writes every network as a transformers directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for member, student in enumerate(self.students):
            student.save_pretrained(_folder(directory, member), safe_serialization=True)
        said = {
            "kind": self.kind,
            "members": len(self.students),
            "mirror": self.mirror,
            "upside_down": self.upside_down,
            "classes": [asdict(spec) for spec in self.classes],
        }
        (directory / CONFIG).write_text(json.dumps(said, indent=2) + "\n")

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        """What is predicted."""
        return self._classes

    def members(self, images_BHWC: np.ndarray, *, seeds: Sequence[int]) -> Tensor:
        """Distributions KBCHW with K = members x views: every image is also seen in the mirrors that mean the same.

        Nothing is random, so the seeds are not used.
        """
        del seeds
        image_BCHW = to_float_images(images_BHWC).to(self.device)
        answers = []
        for student, axes in product(self.students, mirrors(self.mirror, self.upside_down)):
            answers.append(student_logits(student, image_BCHW.flip(axes)).flip(axes))
        return torch.stack(answers).float().softmax(dim=2)

    def sample(self, seeds: Sequence[int], *, num_steps: int) -> tuple[np.ndarray, Tensor]:
        """Raises NotOffered: nothing here draws images."""
        del seeds, num_steps
        raise NotOffered("Students trained on the few labels draw no images; give real ones, with the pool encoded.")


def fit_students(
    generator: FeatureSource | None,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: SelfTrainConfig,
    *,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
) -> FittedHead:
    """Train the members one after another; with a checkpoint path the fit resumes in the member it was in."""
    del generator
    height, width = examples[0].label_HW.shape
    students, trained = [], []
    for member in range(config.members):
        training = config.of_member(member)
        student = build_student(
            config.architecture,
            classes,
            (height, width),
            first_stride=config.first_stride,
            weights=config.weights,
            seed=training.seed,
        )
        path = None if checkpoint_path is None else checkpoint_path.with_suffix(f".{member}.safetensors")
        report = None if progress is None else _of_all(progress, member, config)
        trained.append(
            train_baseline(
                student, examples, classes, training, device=device, progress=report, stop=stop, checkpoint_path=path
            )
        )
        students.append(student)
    augment = resolve(config.augment, examples, num_classes=len(classes))
    labeller = SelfTrainedStudents(
        students,
        classes,
        mirror=bool(augment.horizontal_flip),
        upside_down=bool(augment.vertical_flip),
        device=device,
    )
    card = {
        "kind": labeller.kind,
        "architecture": config.architecture,
        "members": config.members,
        "num_examples": len(examples),
        "num_parameters": sum(num_parameters(student) for student in students),
        "cross_validation": [],
        "steps": sum(training["steps"] for training in trained),
        "seconds": sum(training["seconds"] for training in trained),
        "curves": {f"member {index}": training["curves"]["baseline"] for index, training in enumerate(trained)},
    }
    return FittedHead(labeller, card)


def _folder(directory: Path, member: int) -> Path:
    return directory / f"member{member}"


def _of_all(progress: Progress, member: int, config: SelfTrainConfig) -> Progress:
    """Progress of one member as progress of all."""

    def report(done: int, _total: int, metrics: Mapping[str, float]) -> None:
        progress(member * config.steps + done, config.members * config.steps, metrics)

    return report
