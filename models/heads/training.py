"""Fitting a fusion head to a few annotated images on a frozen generator (method.md 1.4).

The generator sees augmented copies (*views*) of the annotated images, each with fresh noise; their features are kept in
memory and the head is trained on them. Loss: cross-entropy + 3 Dice, each member with its own weights over the examples
(Bayesian bootstrap). Axes: B batch, C channel, H, W, K members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from models.augmentation import AugmentConfig, augment, resolve
from models.contracts import ClassSpec, Features, Generator, Progress, Stop, Stopped
from models.distillation import dice_loss, soft_cross_entropy
from models.examples import Example, to_float_images
from models.heads.cross_validation import Candidate, choose, folds
from models.heads.fusion import FusionConfig, FusionHead
from models.heads.predict import HeadPredictor
from models.metrics.evaluation import evaluate
from models.students.batches import one_hot_targets
from models.training import FitConfig, FitResult, fit


@dataclass(frozen=True)
class HeadTrainConfig:
    """The head's size, budget and what cross-validation may choose."""

    members: int = 4
    width: int = 64
    dropout: float = 0.1
    views: int = 960
    """Augmented copies of the annotated images whose features are kept, shared evenly among the images."""
    epochs: int | None = None
    """Passes over the views; None = `candidate_epochs`, by cross-validation where there are several."""
    tap_timestep: int | None = None
    """Timestep of the features; None = all of `timesteps`, or the best of them by cross-validation."""
    timesteps: tuple[int, ...] = (10, 40, 120)
    """Timesteps the views are read at in turn, and the candidates of cross-validation."""
    candidate_epochs: tuple[int, ...] = (6,)
    validate_from: int = 12
    """Annotated images from which cross-validation decides; with fewer its scatter is larger than what it would decide."""
    validation_views: int = 80
    """Views in a run of cross-validation."""
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
class FittedHead:
    """A head ready to label, and what is known of its making."""

    head: FusionHead
    card: dict[str, Any]
    """JSON-ready: timestep, epochs, cross-validation table, curves, seconds."""


@dataclass(frozen=True)
class Views:
    """Augmented copies of the examples with the generator's features."""

    image_BCHW: Tensor
    target_BCHW: Tensor
    features: dict[str, Tensor]
    """bfloat16 maps, in the images' order."""
    example_B: Tensor
    """Index of the example a view was made from."""


def fit_head(
    generator: Generator,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: HeadTrainConfig,
    *,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> FittedHead:
    """Choose timestep and epochs by cross-validation where they are not pinned, then fit on every example."""
    config = replace(config, augment=resolve(config.augment, examples, num_classes=len(classes)))
    work = _HeadWork(generator, classes, config, device, stop)
    candidates = _candidates(config, len(examples), generator.num_train_timesteps - 1)
    best, table = choose(candidates, folds(examples, config.validation_folds), work.validate, progress)
    report = None if progress is None else _last_half(progress, len(candidates) > 1)
    head, result = work.fit(examples, best, views=config.views, progress=report)
    card = {
        "kind": "fusion",
        "tap_timesteps": list(best.tap_timesteps),
        "epochs": best.epochs,
        "members": config.members,
        "num_examples": len(examples),
        "num_parameters": sum(parameter.numel() for parameter in head.parameters()),
        "cross_validation": table,
        "steps": result.steps,
        "seconds": result.seconds,
        "curves": result.curves,
    }
    return FittedHead(head, card)


def _candidates(config: HeadTrainConfig, num_examples: int, last_timestep: int) -> list[Candidate]:
    """What is to be tried: every timestep alone and all together, where cross-validation has enough to decide on."""
    timesteps = config.timesteps if config.tap_timestep is None else (config.tap_timestep,)
    timesteps = tuple(dict.fromkeys(min(timestep, last_timestep) for timestep in timesteps))
    epochs = config.candidate_epochs if config.epochs is None else (config.epochs,)
    if num_examples < config.validate_from:
        return [Candidate(timesteps, epochs[-1])]
    sets = list(dict.fromkeys([timesteps, *((timestep,) for timestep in timesteps)]))
    return [Candidate(chosen, count) for chosen in sets for count in epochs]


class HeadObjective(nn.Module):
    """Every member's cross-entropy + weighted Dice, each under its own weights over the examples."""

    def __init__(self, head: FusionHead, weight_KE: Tensor, dice_weight: float) -> None:
        super().__init__()
        self.head, self.dice_weight = head, dice_weight
        self.weight_KE = weight_KE

    def forward(self, batch: tuple[Features, Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
        """batch = (features, image_BCHW, target_BCHW, example_B)."""
        features, image_BCHW, target_BCHW, example_B = batch
        logits_KBCHW = self.head(features, image_BCHW)
        losses, dices = [], []
        for logits_BCHW, weight_E in zip(logits_KBCHW, self.weight_KE, strict=True):
            weighted_BCHW = target_BCHW * weight_E[example_B][:, None, None, None]
            losses.append(soft_cross_entropy(logits_BCHW, weighted_BCHW))
            dices.append(dice_loss(logits_BCHW, target_BCHW))
        cross_entropy, dice = torch.stack(losses).mean(), torch.stack(dices).mean()
        return {"loss": cross_entropy + self.dice_weight * dice, "dice": dice.detach()}


class _HeadWork:
    """One generator, one config: makes views, fits heads, validates candidates."""

    def __init__(
        self,
        generator: Generator,
        classes: Sequence[ClassSpec],
        config: HeadTrainConfig,
        device: torch.device,
        stop: Stop | None,
    ) -> None:
        self.generator, self.classes, self.config = generator, list(classes), config
        self.device, self.stop = device, stop

    def validate(self, candidate: Candidate, fitted: Sequence[Example], held_out: Sequence[Example]) -> float:
        """mIoU on held-out examples of a head fitted on the others."""
        head, _ = self.fit(fitted, candidate, views=self.config.validation_views)
        predictor = HeadPredictor(self.generator, head, views=2)
        return evaluate(predictor, held_out, self.classes).miou or 0.0

    def fit(
        self, examples: Sequence[Example], candidate: Candidate, *, views: int, progress: Progress | None = None
    ) -> tuple[FusionHead, FitResult]:
        """A head on `views` views of the examples at the candidate's timestep, for its number of passes."""
        config = self.config
        seen = self.make_views(examples, candidate.tap_timesteps, views)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            head = FusionHead(
                FusionConfig(
                    tap_channels=dict(self.generator.tap_channels),
                    tap_strides=dict(self.generator.tap_strides),
                    classes=tuple(self.classes),
                    width=config.width,
                    members=config.members,
                    dropout=config.dropout,
                    tap_timesteps=candidate.tap_timesteps,
                    mirror=bool(config.augment.horizontal_flip),
                )
            )
        head.calibrate(seen.features)
        head = head.to(self.device).to(memory_format=torch.channels_last)
        draw = torch.Generator().manual_seed(config.seed)
        weight_KE = -torch.rand(config.members, len(examples), generator=draw).clamp_min(1e-3).log()
        weight_KE = weight_KE / weight_KE.mean(dim=1, keepdim=True)
        weight_KE = ((1.0 - config.bootstrap) + config.bootstrap * weight_KE).to(self.device)
        steps = max(1, candidate.epochs * views // config.batch_size)
        fit_config = FitConfig(
            steps=steps, learning_rate=config.learning_rate, weight_decay=0.05, ema_decay=0.98, seed=config.seed
        )
        objective = HeadObjective(head, weight_KE, config.dice_weight)
        batches = _ViewBatches(seen, config.batch_size, self.device)
        result = fit(objective, batches, fit_config, device=self.device, progress=progress, stop=self.stop)
        return head.eval(), result

    @torch.no_grad()
    def make_views(self, examples: Sequence[Example], timesteps: Sequence[int], count: int) -> Views:
        """`count` augmented copies, each noised by its own seed; one chunk after the other at the next timestep."""
        images_BCHW = to_float_images([example.image_HWC for example in examples])
        targets_BCHW = one_hot_targets(examples, self.classes)
        draw = torch.Generator().manual_seed(self.config.seed * 7919)
        example_B = torch.arange(count) % len(examples)
        image_BCHW, target_BCHW = augment(
            images_BCHW[example_B], targets_BCHW[example_B], self.config.augment, generator=draw
        )
        chunks: list[Features] = []
        for start in range(0, count, 16):
            if self.stop is not None and self.stop():
                raise Stopped
            part_BCHW = image_BCHW[start : start + 16].to(self.device)
            seeds = [self.config.seed * 1_000_003 + start + index for index in range(len(part_BCHW))]
            timestep = timesteps[len(chunks) % len(timesteps)]
            features = self.generator.encode(part_BCHW, tap_timestep=timestep, seeds=seeds)
            chunks.append({name: value.to(torch.bfloat16) for name, value in features.items()})
        features = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
        return Views(image_BCHW, target_BCHW, features, example_B)


class _ViewBatches:
    """Shuffled passes over the views."""

    def __init__(self, views: Views, batch_size: int, device: torch.device) -> None:
        self.views, self.batch_size, self.device = views, batch_size, device

    def __call__(self, generator: torch.Generator) -> tuple[Features, Tensor, Tensor, Tensor]:
        views, device = self.views, self.device
        picks = torch.randint(len(views.image_BCHW), (self.batch_size,), generator=generator)
        features = {name: value[picks.to(value.device)].to(device).float() for name, value in views.features.items()}
        return (
            features,
            views.image_BCHW[picks].to(device),
            views.target_BCHW[picks].to(device),
            views.example_B[picks].to(device),
        )


def _last_half(progress: Progress, validated: bool) -> Progress:
    """Progress of the final fit: the second half of the bar where cross-validation was the first."""

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        progress((done + total if validated else done), (2 * total if validated else total), metrics)

    return report
