"""A student from its name, and the one way to read its logits. Axes: B batch, C channel, H, W."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForSemanticSegmentation

from models.contracts import ClassSpec
from models.instances import channel_names
from models.registry import STUDENTS


def build_student(
    architecture: str,
    classes: Sequence[ClassSpec],
    image_size: tuple[int, int],
    *,
    first_stride: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """A freshly initialised student for images of (height, width): one output per class and per thing's contour.

    `first_stride` is the first stage's stride; None takes 2 for small images, where details are two pixels wide, else 4.
    Raises ValueError for an unknown name or a stride the architecture cannot have.
    """
    if architecture not in STUDENTS:
        raise ValueError(f"There is no student {architecture!r}; there are {', '.join(sorted(STUDENTS))}.")
    known = STUDENTS[architecture]
    names = dict(enumerate(channel_names(classes)))
    config = known.configure(names, known.stride_for(image_size, first_stride))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student: nn.Module = AutoModelForSemanticSegmentation.from_config(config)
    return student.to(memory_format=torch.channels_last)


def student_logits(student: nn.Module, image_BCHW: torch.Tensor) -> torch.Tensor:
    """Logits BCHW at the image's own size; images are in [-1, 1]."""
    logits_BCHW: torch.Tensor = student(pixel_values=image_BCHW.contiguous(memory_format=torch.channels_last)).logits
    if logits_BCHW.shape[-2:] == image_BCHW.shape[-2:]:
        return logits_BCHW
    return functional.interpolate(logits_BCHW.float(), size=image_BCHW.shape[-2:], mode="bilinear", align_corners=False)


def num_parameters(student: Any) -> int:
    """Number of weights."""
    return sum(parameter.numel() for parameter in student.parameters())
