"""Fitting a fusion head to a few annotated images on a frozen generator (method.md 1.4).

Every step sees freshly augmented copies of the annotated images, encoded by the generator with fresh noise. Loss:
cross-entropy + Dice, each member with its own weights over the examples (Bayesian bootstrap).
Axes: B batch, C channel, H, W, K members, E examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from models.augmentation import AugmentConfig, resolve
from models.contracts import ClassSpec, Features, FeatureSource, Progress, Stop
from models.distillation import dice_loss, soft_cross_entropy
from models.examples import Example
from models.heads.cross_validation import Candidate, choose, folds
from models.heads.fusion import FusionConfig, FusionHead
from models.heads.fusion_labeller import FusionLabeller
from models.heads.tap_blocks import chosen_blocks
from models.labelling import FittedHead, LabellerPredictor
from models.metrics.evaluation import evaluate
from models.students.batches import ExampleBatches
from models.training import FitConfig, FitResult, fit, thinned

CALIBRATION_BATCHES = 8
"""Batches of views whose features give every channel's mean and spread."""


VIEW_PIXELS = 2**19
"""Image pixels of a step beyond which views get fewer: a batch of large images would need tens of gigabytes."""
LEAST_VIEWS = 4


def views_per_step(height: int, width: int) -> int:
    """Images of a step, by their size: 16 up to 181x181, 8 of 256x256, 4 from 362x362 on."""
    return max(LEAST_VIEWS, min(FusionTrainConfig.batch_size, VIEW_PIXELS // (height * width)))


@dataclass(frozen=True)
class FusionTrainConfig:
    """The head's size, budget and what cross-validation may choose."""

    members: int = 4
    width: int = 64
    dropout: float = 0.1
    steps: int = 450
    """Optimiser steps; every one sees new views."""
    tap_timestep: int | None = None
    """Timestep of the features; None = all of `timesteps`, or the best of them by cross-validation."""
    timesteps: tuple[int, ...] = (50, 120, 250)
    """Timesteps that every batch is spread over, and the candidates of cross-validation."""
    tap_blocks: tuple[str, ...] | None = None
    """Taps of the generator that the head reads; None = all of them."""
    validate_from: int = 12
    """Annotated images from which cross-validation decides; with fewer its scatter is larger than what it would decide."""
    validation_steps: int = 60
    """Steps of a run of cross-validation."""
    validation_folds: int = 2
    batch_size: int = 16
    learning_rate: float = 3e-3
    dice_weight: float = 1.0
    """Weight of the Dice term (the paper: 3)."""
    bootstrap: float = 0.5
    """How far the members' weights over the examples differ: 0 = equal, 1 = a full Bayesian bootstrap."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0


@dataclass(frozen=True)
class Views:
    """Augmented copies of the examples with the generator's features."""

    features: Features
    image_BCHW: Tensor
    target_BCHW: Tensor
    example_B: Tensor
    """Index of the example a view was made from."""


def fit_fusion(
    generator: FeatureSource,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: FusionTrainConfig,
    *,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
) -> FittedHead:
    """Choose the timestep by cross-validation where it is not pinned and there are enough examples, then fit on all.

    With a checkpoint path the fit resumes where it was stopped.
    """
    config = replace(config, augment=resolve(config.augment, examples, num_classes=len(classes)))
    work = _FusionWork(generator, classes, config, device, stop)
    candidates = _candidates(config, len(examples), generator.num_train_timesteps - 1)
    best, table = choose(candidates, folds(examples, config.validation_folds), work.validate, progress)
    report = None if progress is None else _last_half(progress, len(candidates) > 1)
    head, result = work.fit(examples, best, steps=config.steps, progress=report, checkpoint_path=checkpoint_path)
    card = {
        "kind": FusionLabeller.kind,
        "tap_timesteps": list(best.tap_timesteps),
        "tap_blocks": list(head.config.tap_channels),
        "members": config.members,
        "num_examples": len(examples),
        "num_parameters": sum(parameter.numel() for parameter in head.parameters()),
        "cross_validation": table,
        "steps": result.steps,
        "seconds": result.seconds,
        "curves": thinned(result.curves),
    }
    return FittedHead(FusionLabeller(generator, head), card)


def _candidates(config: FusionTrainConfig, num_examples: int, last_timestep: int) -> list[Candidate]:
    """What is to be tried: every timestep alone and all together, where cross-validation has enough to decide on."""
    timesteps = config.timesteps if config.tap_timestep is None else (config.tap_timestep,)
    timesteps = tuple(dict.fromkeys(min(timestep, last_timestep) for timestep in timesteps))
    if num_examples < config.validate_from:
        return [Candidate(timesteps)]
    return [Candidate(chosen) for chosen in dict.fromkeys([timesteps, *((timestep,) for timestep in timesteps)])]


class FusionObjective(nn.Module):
    """Every member's cross-entropy + weighted Dice, each under its own weights over the examples."""

    def __init__(self, head: FusionHead, weight_KE: Tensor, dice_weight: float) -> None:
        super().__init__()
        self.head, self.dice_weight = head, dice_weight
        self.weight_KE = weight_KE

    def forward(self, views: Views) -> dict[str, Tensor]:
        """Views -> {"loss", "dice"}."""
        logits_KBCHW = self.head(views.features, views.image_BCHW)
        losses, dices = [], []
        for logits_BCHW, weight_E in zip(logits_KBCHW, self.weight_KE, strict=True):
            weighted_BCHW = views.target_BCHW * weight_E[views.example_B][:, None, None, None]
            losses.append(soft_cross_entropy(logits_BCHW, weighted_BCHW))
            dices.append(dice_loss(logits_BCHW, views.target_BCHW))
        cross_entropy, dice = torch.stack(losses).mean(), torch.stack(dices).mean()
        return {"loss": cross_entropy + self.dice_weight * dice, "dice": dice.detach()}


class ViewBatches:
    """Fresh views of the examples, every batch spread over the timesteps (batch norm then sees them as they will be mixed)."""

    def __init__(
        self, generator: FeatureSource, examples: ExampleBatches, timesteps: Sequence[int], device: torch.device
    ) -> None:
        self.generator, self.examples, self.timesteps, self.device = generator, examples, tuple(timesteps), device

    @torch.no_grad()
    def __call__(self, generator: torch.Generator) -> Views:
        """The batch of a step."""
        count, parts = self.examples.batch_size, len(self.timesteps)
        example_B = self.examples.pick(count, generator)
        image_BCHW, target_BCHW = self.examples.augmented(example_B, generator)
        image_BCHW, target_BCHW = image_BCHW.to(self.device), target_BCHW.to(self.device)
        seeds = torch.randint(2**31, (count,), generator=generator).tolist()
        first = int(torch.randint(parts, (1,), generator=generator))
        chunks: list[Features] = []
        for part in range(parts):
            start, end = round(part * count / parts), round((part + 1) * count / parts)
            if start < end:
                timestep = self.timesteps[(first + part) % parts]
                chunks.append(
                    self.generator.encode(image_BCHW[start:end], tap_timestep=timestep, seeds=seeds[start:end])
                )
        features = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        return Views(features, image_BCHW, target_BCHW, example_B.to(self.device))


class _FusionWork:
    """One generator, one config: fits heads, validates candidates."""

    def __init__(
        self,
        generator: FeatureSource,
        classes: Sequence[ClassSpec],
        config: FusionTrainConfig,
        device: torch.device,
        stop: Stop | None,
    ) -> None:
        self.generator, self.classes, self.config = generator, list(classes), config
        self.device, self.stop = device, stop

    def validate(self, candidate: Candidate, fitted: Sequence[Example], held_out: Sequence[Example]) -> float:
        """mIoU on held-out examples of a head fitted on the others."""
        head, _ = self.fit(fitted, candidate, steps=self.config.validation_steps)
        predictor = LabellerPredictor(FusionLabeller(self.generator, head, views=2))
        return evaluate(predictor, held_out, self.classes).miou or 0.0

    def fit(
        self,
        examples: Sequence[Example],
        candidate: Candidate,
        *,
        steps: int,
        progress: Progress | None = None,
        checkpoint_path: Path | None = None,
    ) -> tuple[FusionHead, FitResult]:
        """A head after `steps` steps at the candidate's timesteps."""
        config = self.config
        few = ExampleBatches(examples, self.classes, config.augment, config.batch_size, self.device)
        batches = ViewBatches(self.generator, few, candidate.tap_timesteps, self.device)
        head = self._new_head(candidate, batches)
        objective = FusionObjective(head, self._weights(len(examples)), config.dice_weight)
        fit_config = FitConfig(
            steps=steps, learning_rate=config.learning_rate, weight_decay=0.05, ema_decay=0.98, seed=config.seed
        )
        result = fit(
            objective,
            batches,
            fit_config,
            device=self.device,
            progress=progress,
            stop=self.stop,
            checkpoint_path=checkpoint_path,
        )
        return head.eval(), result

    def _new_head(self, candidate: Candidate, batches: ViewBatches) -> FusionHead:
        config = self.config
        tap_channels = chosen_blocks(self.generator, config.tap_blocks)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            head = FusionHead(
                FusionConfig(
                    tap_channels=tap_channels,
                    tap_strides={name: self.generator.tap_strides[name] for name in tap_channels},
                    classes=tuple(self.classes),
                    width=config.width,
                    members=config.members,
                    dropout=config.dropout,
                    tap_timesteps=candidate.tap_timesteps,
                    mirror=bool(config.augment.horizontal_flip),
                    upside_down=bool(config.augment.vertical_flip),
                )
            )
        draw = torch.Generator().manual_seed(config.seed * 7919)
        head.to(self.device).calibrate(batches(draw).features for _ in range(CALIBRATION_BATCHES))
        head.to(memory_format=torch.channels_last)
        return head

    def _weights(self, num_examples: int) -> Tensor:
        """Every member's weights over the examples, KE, mean 1."""
        draw = torch.Generator().manual_seed(self.config.seed)
        weight_KE = -torch.rand(self.config.members, num_examples, generator=draw).clamp_min(1e-3).log()
        weight_KE = weight_KE / weight_KE.mean(dim=1, keepdim=True)
        return ((1.0 - self.config.bootstrap) + self.config.bootstrap * weight_KE).to(self.device)


def _last_half(progress: Progress, validated: bool) -> Progress:
    """Progress of the final fit: the second half of the bar where cross-validation was the first."""

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        progress((done + total if validated else done), (2 * total if validated else total), metrics)

    return report
