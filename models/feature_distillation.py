"""Feature distillation (DreamTeacher 3.1; method.md 1.3): a backbone's stages regress the generator's features.

The regressor is a pyramid over the stages with one prediction per tap of the generator; it is thrown away afterwards.
Both losses compare whitened maps, so neither depends on a tap's scale.
Axes: B batch, C channel, H, W, P pixels (H * W).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.contracts import Features, FeatureSource
from models.distillation import SegmentationObjective

Stages = Callable[[Any, Tensor], list[Tensor]]
"""`stages(student, image_BCHW)` -> the backbone's maps BCHW, fine to coarse."""

LogitsAndStages = Callable[[Any, Tensor], tuple[Tensor, list[Tensor]]]
"""The same together with the student's logits BCHW, from one pass."""

FeatureBatch = tuple[Tensor, Tensor, Features]
"""(image_BCHW in [-1, 1], target_BCHW distributions, the generator's features of these images)."""

POOLS = (1, 2, 3, 6)
"""Sides of the maps that the coarsest stage is pooled to (PPM)."""
NORM_GROUPS = 8


@dataclass(frozen=True)
class FeatureTeacher:
    """The frozen generator or encoder, and the noise at which it is asked."""

    generator: FeatureSource
    tap_timestep: int
    """Diffusion time of the features: the head's, so that both teach from the same noise."""

    @torch.no_grad()
    def features(self, image_BCHW: Tensor, draw: torch.Generator) -> Features:
        """Features of images in [-1, 1] under fresh noise, whose seeds are drawn from `draw`."""
        seeds = torch.randint(2**31, (len(image_BCHW),), generator=draw).tolist()
        return self.generator.encode(image_BCHW, tap_timestep=self.tap_timestep, seeds=seeds)

    def check_size(self, height: int, width: int) -> None:
        """Raises ValueError for images that the generator cannot encode."""
        wanted = tuple(self.generator.image_size[1:])
        if (height, width) != wanted:
            raise ValueError(
                f"Features can be distilled from images of the generator's size only: it is {wanted[0]}x{wanted[1]}, "
                f"the images are {height}x{width}."
            )


class FeatureRegressor(nn.Module):
    """FPN with pyramid pooling on the coarsest stage, then 1x1 to every tap's channels (method.md 1.3).

    Narrower than the paper's 256 channels, as the students are; GroupNorm, because a batch may be one image.
    """

    def __init__(self, stage_channels: Sequence[int], tap_channels: dict[str, int], *, width: int = 64) -> None:
        super().__init__()
        self.taps = list(tap_channels)
        *finer, coarsest = stage_channels
        self.pools = nn.ModuleList([_block(coarsest, width // len(POOLS), 1, groups=1) for _ in POOLS])
        laterals = [_block(channels, width, 1) for channels in finer]
        pooled = coarsest + width // len(POOLS) * len(POOLS)
        self.laterals = nn.ModuleList([*laterals, _block(pooled, width, 3)])
        self.smoothings = nn.ModuleList([_block(width, width, 3) for _ in stage_channels])
        self.projections = nn.ModuleList([nn.Conv2d(width, channels, 1) for channels in tap_channels.values()])

    def forward(self, stages: Sequence[Tensor], sizes: dict[str, tuple[int, int]]) -> Features:
        """Stages BCHW, fine to coarse -> tap name -> BCHW of its (height, width) in `sizes`."""
        levels = self._pyramid(stages)
        regressed: Features = {}
        for name, projection in zip(self.taps, self.projections, strict=True):
            projected_BCHW = projection(_nearest(levels, sizes[name])).float()
            regressed[name] = _resized(projected_BCHW, sizes[name])
        return regressed

    def _pyramid(self, stages: Sequence[Tensor]) -> list[Tensor]:
        coarsest_BCHW = stages[-1]
        size = _size(coarsest_BCHW)
        pooled = [
            _resized(pool(functional.adaptive_avg_pool2d(coarsest_BCHW, side)), size)
            for side, pool in zip(POOLS, self.pools, strict=True)
        ]
        inputs = [*stages[:-1], torch.cat([coarsest_BCHW, *pooled], dim=1)]
        levels = [lateral(map_BCHW) for lateral, map_BCHW in zip(self.laterals, inputs, strict=True)]
        for index in reversed(range(len(levels) - 1)):
            levels[index] = levels[index] + _resized(levels[index + 1], _size(levels[index]))
        return [smooth(level_BCHW) for smooth, level_BCHW in zip(self.smoothings, levels, strict=True)]


def whiten(features_BCHW: Tensor) -> Tensor:
    """W: every image's map with mean 0 and variance 1 over its channels and pixels (layer norm without weights)."""
    return functional.layer_norm(features_BCHW.float(), features_BCHW.shape[1:])


def attention_distance(ours_BCHW: Tensor, theirs_BCHW: Tensor) -> Tensor:
    """L_AT of one level: distance of the unit vectors of energy per pixel, averaged over the images; in [0, sqrt 2]."""

    def unit_energy(features_BCHW: Tensor) -> Tensor:
        energy_BP = features_BCHW.float().square().sum(dim=1).flatten(1)
        return functional.normalize(energy_BP, dim=1)

    return torch.linalg.vector_norm(unit_energy(ours_BCHW) - unit_energy(theirs_BCHW), dim=1).mean()


def feature_losses(regressed: Features, features: Features) -> tuple[Tensor, Tensor]:
    """(L_MSE per element, L_AT), both averaged over the levels; the regressor answers in whitened units."""
    whitened = {name: whiten(features[name]) for name in regressed}
    squares = [functional.mse_loss(ours_BCHW.float(), whitened[name]) for name, ours_BCHW in regressed.items()]
    distances = [attention_distance(ours_BCHW, whitened[name]) for name, ours_BCHW in regressed.items()]
    return torch.stack(squares).mean(), torch.stack(distances).mean()


class FeatureObjective(nn.Module):
    """L_feat = L_MSE + attention_weight * L_AT on the backbone alone (mode `feature`, first phase)."""

    partial = True
    """The student's decoder gets no gradients."""

    def __init__(
        self, student: nn.Module, stages: Stages, regressor: FeatureRegressor, attention_weight: float
    ) -> None:
        super().__init__()
        self.student, self.regressor, self._stages = student, regressor, stages
        self.attention_weight = attention_weight

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """batch -> {"loss", "feature" = L_MSE, "attention" = L_AT}."""
        image_BCHW, _, features = batch
        return self.compare(self._stages(self.student, image_BCHW), features)

    def compare(self, stages: list[Tensor], features: Features) -> dict[str, Tensor]:
        """The losses of stages that are known already."""
        regressed = self.regressor(stages, {name: _size(map_BCHW) for name, map_BCHW in features.items()})
        square, attention = feature_losses(regressed, features)
        loss = square + self.attention_weight * attention
        return {"loss": loss, "feature": square.detach(), "attention": attention.detach()}


class MixObjective(nn.Module):
    """L_mix: the label loss plus feature_weight * L_feat, from one pass of the backbone (mode `mix`)."""

    def __init__(
        self, label: SegmentationObjective, feature: FeatureObjective, both: LogitsAndStages, feature_weight: float
    ) -> None:
        super().__init__()
        self.label, self.feature, self._both = label, feature, both
        self.feature_weight = feature_weight

    def forward(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """batch -> {"loss", "dice", "feature", "attention"}."""
        image_BCHW, target_BCHW, features = batch
        logits_BCHW, stages = self._both(self.label.student, image_BCHW)
        label = self.label.compare(logits_BCHW, target_BCHW)
        feature = self.feature.compare(stages, features)
        return {**feature, **label, "loss": label["loss"] + self.feature_weight * feature["loss"]}


def _block(channels_in: int, channels_out: int, kernel: int, groups: int = NORM_GROUPS) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
        nn.GroupNorm(groups, channels_out),
        nn.ReLU(),
    )


def _nearest(levels: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The level whose resolution is nearest; the finer of two equally near."""
    return min(levels, key=lambda level_BCHW: max(level_BCHW.shape[-2] / size[0], size[0] / level_BCHW.shape[-2]))


def _resized(map_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    if _size(map_BCHW) == size:
        return map_BCHW
    return functional.interpolate(map_BCHW.float(), size=size, mode="bilinear", align_corners=False, antialias=True)


def _size(map_BCHW: Tensor) -> tuple[int, int]:
    return map_BCHW.shape[-2], map_BCHW.shape[-1]
