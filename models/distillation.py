"""Objectives of a student: soft labels (DreamTeacher 3.2, label distillation) and hard labels, in one form.

A target is a class distribution per pixel; a pixel whose distribution sums to zero is ignored. Losses are those of a whole
batch, of which several processes may see a part each.
Axes: B batch, C channel, H, W.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from models.training_group import ALONE, Group

Logits = Callable[[nn.Module, torch.Tensor], torch.Tensor]


def soften(target_BCHW: torch.Tensor, temperature: float) -> torch.Tensor:
    """The distribution at a temperature, p^(1/tau) normalised; ignored pixels stay zero."""
    if temperature == 1.0:
        return target_BCHW
    mass_B1HW = target_BCHW.sum(dim=1, keepdim=True)
    powered_BCHW = target_BCHW.clamp_min(1e-4).pow(1.0 / temperature)
    return powered_BCHW / powered_BCHW.sum(dim=1, keepdim=True) * mass_B1HW


def soft_cross_entropy(
    logits_BCHW: torch.Tensor,
    target_BCHW: torch.Tensor,
    *,
    temperature: float = 1.0,
    group: Group = ALONE,
) -> torch.Tensor:
    """H(target at tau, student at tau) per counted pixel, times tau so that the gradient's size does not depend on it."""
    log_BCHW = functional.log_softmax(logits_BCHW.float() / temperature, dim=1)
    target_BCHW = soften(target_BCHW, temperature)
    surprise, counted = group.total(torch.stack([-(target_BCHW * log_BCHW).sum(), target_BCHW.sum()]))
    return surprise / counted.clamp_min(1e-6) * temperature


def dice_loss(logits_BCHW: torch.Tensor, target_BCHW: torch.Tensor, *, group: Group = ALONE) -> torch.Tensor:
    """1 - soft Dice, averaged over the channels that occur in the batch's target; the batch is one image to it."""
    valid_B1HW = (target_BCHW.sum(dim=1, keepdim=True) > 0.5).float()
    probability_BCHW = logits_BCHW.float().softmax(dim=1) * valid_B1HW
    both_C = (probability_BCHW * target_BCHW).sum((0, 2, 3))
    total_C = (probability_BCHW.square() + target_BCHW.square()).sum((0, 2, 3))
    both_C, total_C, counted_C = group.total(torch.stack([both_C, total_C, target_BCHW.sum((0, 2, 3))]))
    present_C = (counted_C > 0).float()
    dice_C = 1.0 - (2.0 * both_C + 1.0) / (total_C + 1.0)
    return (dice_C * present_C).sum() / present_C.sum().clamp_min(1.0)


class SegmentationObjective(nn.Module):
    """Cross-entropy plus weighted Dice between a student and its targets."""

    def __init__(
        self,
        student: nn.Module,
        logits: Logits,
        *,
        temperature: float = 1.0,
        dice_weight: float = 0.0,
        group: Group = ALONE,
    ) -> None:
        super().__init__()
        self.student, self._logits, self._group = student, logits, group
        self.temperature, self.dice_weight = temperature, dice_weight

    def forward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        """batch = (image_BCHW in [-1, 1], target_BCHW distributions) -> {"loss", ...}."""
        image_BCHW, target_BCHW = batch
        return self.compare(self._logits(self.student, image_BCHW), target_BCHW)

    def compare(self, logits_BCHW: torch.Tensor, target_BCHW: torch.Tensor) -> dict[str, torch.Tensor]:
        """The losses of logits that are known already."""
        loss = soft_cross_entropy(logits_BCHW, target_BCHW, temperature=self.temperature, group=self._group)
        if self.dice_weight == 0:
            return {"loss": loss}
        dice = dice_loss(logits_BCHW, target_BCHW, group=self._group)
        return {"loss": loss + self.dice_weight * dice, "dice": dice.detach()}
