"""Logit adjustment: a rare class is named about as often as it occurs (after Menon et al., ICLR 2021, section 4.1).

A network that is unsure spreads its belief, and the most probable class of a doubtful pixel is the frequent one: a class
of one pixel in a hundred is lost although it was seen. Adding `strength` times the logarithm of how much rarer than a
tenth of the pixels a class is to its logits makes up for it; what is not rare stays as it is, and so do objects, which
grow into each other when they grow. The offsets go into the bias of the last layer, so that whoever runs the network, in
whatever runtime, needs to know nothing of it. Axes: C output channel.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from models.contracts import ClassSpec
from models.examples import Example
from models.students.build import classifier

RARE = 0.1
"""Share of the annotated pixels below which a class is rare."""
LEAST_SHARE = 1e-3
"""A class of fewer pixels counts as this rare: of a handful nobody knows how many there should be."""


def class_shares(examples: Sequence[Example], num_classes: int) -> np.ndarray:
    """Share of each class in the annotated pixels, float64; ignored pixels (255) do not count."""
    pixels = sum((np.bincount(example.label_HW.reshape(-1), minlength=256) for example in examples), np.zeros(256))
    counted: np.ndarray = pixels[:num_classes] / max(1.0, pixels[:num_classes].sum())
    return counted


def logit_offsets(examples: Sequence[Example], classes: Sequence[ClassSpec], strength: float) -> torch.Tensor:
    """What is added to the logits of each class, float32 C; nothing for a class that no example shows."""
    shares = class_shares(examples, len(classes))
    rarity = RARE / np.clip(np.where(shares > 0, shares, RARE), LEAST_SHARE, RARE)
    return torch.from_numpy(strength * np.log(rarity)).float()


@torch.no_grad()
def adjust(student: nn.Module, examples: Sequence[Example], classes: Sequence[ClassSpec], strength: float) -> bool:
    """Add the offsets to the last layer of a trained network, once; False where there are things or no logits per pixel."""
    layer = classifier(student)
    if layer is None or layer.bias is None or strength == 0 or any(spec.thing for spec in classes):
        return False
    layer.bias += logit_offsets(examples, classes, strength).to(layer.bias.device)
    return True
