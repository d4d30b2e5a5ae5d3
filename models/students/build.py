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
    architecture: str, classes: Sequence[ClassSpec], image_size: tuple[int, int], *, seed: int = 0
) -> nn.Module:
    """A freshly initialised student: one output per class and one per thing's contour.

    `image_size` (height, width) is checked against the architecture by a forward pass. Unknown names raise ValueError.
    """
    if architecture not in STUDENTS:
        raise ValueError(f"There is no student {architecture!r}; there are {', '.join(sorted(STUDENTS))}.")
    names = dict(enumerate(channel_names(classes)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student: nn.Module = AutoModelForSemanticSegmentation.from_config(STUDENTS[architecture].configure(names))
    with torch.inference_mode():
        student_logits(student.eval(), torch.zeros(1, 3, *image_size))
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
