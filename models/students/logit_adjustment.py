"""Logit adjustment: a rare class is named about as often as it occurs (Menon et al., ICLR 2021, section 4.1).

A network that is unsure spreads its belief, and the most probable class of a doubtful pixel is the frequent one: a class
of one pixel in a hundred is lost although it was seen. Subtracting `strength` times the logarithm of each class's share
from the logits makes up for it. The offsets go into the bias of the last layer, so that whoever runs the network, in
whatever runtime, needs to know nothing of it. Axes: C output channel.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from models.contracts import ClassSpec
from models.examples import Example
from models.instances import channel_classes
from models.students.build import classifier

LEAST_SHARE = 1e-3
"""A class of fewer pixels counts as this rare: of a handful nobody knows how many there should be."""


def class_shares(examples: Sequence[Example], num_classes: int) -> np.ndarray:
    """Share of each class in the annotated pixels, float64; ignored pixels (255) do not count."""
    pixels = sum((np.bincount(example.label_HW.reshape(-1), minlength=256) for example in examples), np.zeros(256))
    counted: np.ndarray = pixels[:num_classes] / max(1.0, pixels[:num_classes].sum())
    return counted


def logit_offsets(examples: Sequence[Example], classes: Sequence[ClassSpec], strength: float) -> torch.Tensor:
    """What is added to the logits of each output, float32 C; a contour moves with its class.

    A class that no example shows is offset as the most frequent one: what was never seen must not be named more often.
    """
    shares = class_shares(examples, len(classes))
    shares = np.where(shares > 0, np.maximum(shares, LEAST_SHARE), shares.max(initial=1.0 / max(1, len(classes))))
    return torch.from_numpy(-strength * np.log(shares)[channel_classes(classes)]).float()


@torch.no_grad()
def adjust(student: nn.Module, examples: Sequence[Example], classes: Sequence[ClassSpec], strength: float) -> bool:
    """Add the offsets to the last layer of a trained network, once; False where it has no logits per pixel."""
    layer = classifier(student)
    if layer is None or layer.bias is None or strength == 0:
        return False
    layer.bias += logit_offsets(examples, classes, strength).to(layer.bias.device)
    return True
