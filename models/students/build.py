"""A student from its name, and the one way to read its logits and its stages. Axes: B batch, C channel, H, W."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import (
    AutoModelForObjectDetection,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    Mask2FormerForUniversalSegmentation,
    RTDetrForObjectDetection,
    SegformerForSemanticSegmentation,
    UperNetForSemanticSegmentation,
)

from models.contracts import ClassSpec
from models.instances import channel_names
from models.registry import STUDENTS, Task
from models.students.weights import fitting_stride, load_backbone

AUTO_CLASSES: dict[Task, Any] = {
    "semantic": AutoModelForSemanticSegmentation,
    "instance": AutoModelForUniversalSegmentation,
    "detection": AutoModelForObjectDetection,
}
"""The class of transformers that loads a student's directory."""


def build_student(
    architecture: str,
    classes: Sequence[ClassSpec],
    image_size: tuple[int, int],
    *,
    first_stride: int | None = None,
    weights: Path | None = None,
    seed: int = 0,
) -> nn.Module:
    """An untrained student for images of (height, width): one output per class and, in label maps, per thing's contour.

    `first_stride` is the first stage's stride; None takes 2 for small images, where details are two pixels wide, else 4.
    `weights` is a directory that the backbone starts from, with the stride it was trained with; the rest is fresh.
    Raises ValueError for an unknown name or a stride the architecture cannot have; and what `load_backbone` raises.
    """
    if architecture not in STUDENTS:
        raise ValueError(f"There is no student {architecture!r}; there are {', '.join(sorted(STUDENTS))}.")
    known = STUDENTS[architecture]
    names = dict(enumerate(_output_names(known.task, classes)))
    if weights is not None and first_stride is not None:
        raise ValueError("Weights come with the stride they were trained with: give first_stride or weights, not both.")
    stride = known.stride_for(image_size, first_stride) if weights is None else fitting_stride(known, weights)
    config = known.configure(names, stride)
    if known.task == "detection":
        config.num_queries = min(config.num_queries, _num_places(config.feat_strides, image_size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student: nn.Module = AUTO_CLASSES[known.task].from_config(config)
    if weights is not None:
        load_backbone(_backbone(student), weights)
    return student.to(memory_format=torch.channels_last)


def _output_names(task: Task, classes: Sequence[ClassSpec]) -> list[str]:
    """A detector knows things alone. Raises ValueError where there is none."""
    if task == "semantic":
        return channel_names(classes)
    names = [spec.name for spec in classes if spec.thing or task == "instance"]
    if not names:
        raise ValueError("A detector finds objects, and no class is of things.")
    return names


def _num_places(strides: Sequence[int], image_size: tuple[int, int]) -> int:
    """Places that a detector's queries are chosen from."""
    return sum((image_size[0] // stride) * (image_size[1] // stride) for stride in strides)


def student_logits(student: nn.Module, image_BCHW: torch.Tensor) -> torch.Tensor:
    """Logits BCHW at the image's own size; images are in [-1, 1]."""
    logits_BCHW: torch.Tensor = student(pixel_values=image_BCHW.contiguous(memory_format=torch.channels_last)).logits
    if logits_BCHW.shape[-2:] == image_BCHW.shape[-2:]:
        return logits_BCHW
    return functional.interpolate(logits_BCHW.float(), size=image_BCHW.shape[-2:], mode="bilinear", align_corners=False)


def student_stages(student: nn.Module, image_BCHW: torch.Tensor) -> list[torch.Tensor]:
    """What the decoder gets of the backbone, BCHW from fine to coarse; images are in [-1, 1].

    Raises ValueError for a network whose stages are not known.
    """
    output = _backbone(student)(image_BCHW.contiguous(memory_format=torch.channels_last), output_hidden_states=True)
    return _maps(output)


def student_logits_and_stages(student: nn.Module, image_BCHW: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """`student_logits` and, from the same pass, `student_stages`."""
    stages: list[torch.Tensor] = []
    hook = _backbone(student).register_forward_hook(lambda _backbone, _inputs, output: stages.extend(_maps(output)))
    try:
        return student_logits(student, image_BCHW), stages
    finally:
        hook.remove()


def stage_channels(student: nn.Module) -> list[int]:
    """Channels of every stage, fine to coarse. Raises ValueError for a network whose stages are not known."""
    backbone: Any = _backbone(student)
    channels = (
        backbone.config.hidden_sizes if isinstance(student, SegformerForSemanticSegmentation) else backbone.channels
    )
    return list(channels)


def _backbone(student: nn.Module) -> nn.Module:
    if isinstance(student, UperNetForSemanticSegmentation):
        return student.backbone
    if isinstance(student, SegformerForSemanticSegmentation):
        return student.segformer
    if isinstance(student, Mask2FormerForUniversalSegmentation):
        return student.model.pixel_level_module.encoder
    if isinstance(student, RTDetrForObjectDetection):
        return student.model.backbone.model
    raise ValueError(
        f"A {type(student).__name__} has no stages to regress features from: "
        "choose the mode label, or another architecture."
    )


def classifier(student: nn.Module) -> nn.Conv2d | None:
    """The last layer of a network that gives logits per pixel; None for one that finds objects."""
    if isinstance(student, UperNetForSemanticSegmentation | SegformerForSemanticSegmentation):
        layer: nn.Conv2d = student.decode_head.classifier
        return layer
    return None


def _maps(output: Any) -> list[torch.Tensor]:
    """Of a SegFormer every hidden state is a stage; an UperNet's backbone names them."""
    return list(output.hidden_states if "feature_maps" not in output else output.feature_maps)


def num_parameters(student: Any) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in student.parameters())
