"""Fitting the pixel classifiers to a few annotated images on a frozen generator (DatasetGAN, DDPM-seg; method.md 4.1).

As in the papers: cross-entropy on random pixels, every member its own pixels and its own initial weights. Otherwise
than there: fresh augmented views, noised anew, instead of the stored features of the images as they are (so nothing is
stored); features standardised; a budget of steps with a cosine schedule and averaged weights instead of epochs that end
when a single batch's loss no longer falls; more pixels than 64 in a batch.
Axes: B batch, C channel, H, W, K members, P pixels of an image, R rows (pixels of all images).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from models.augmentation import AugmentConfig, resolve
from models.contracts import ClassSpec, Features, FeatureSource, Progress, Stop
from models.distillation import soft_cross_entropy
from models.examples import Example
from models.heads.pixel_mlp import PixelMLPConfig, PixelMLPs, encode_at_all
from models.heads.pixel_mlp_labeller import PixelMLPLabeller
from models.labelling import FittedHead
from models.students.batches import ExampleBatches
from models.training import FitConfig, fit

CALIBRATION_BATCHES = 8
"""Batches of views whose features give every channel's mean and spread."""


@dataclass(frozen=True)
class PixelMLPTrainConfig:
    """The ensemble's size and budget."""

    members: int = 10
    steps: int = 450
    """Optimiser steps; every one sees new views."""
    tap_timestep: int | None = None
    """The only timestep of the features; None = all of `timesteps`."""
    timesteps: tuple[int, ...] = (50, 150, 250)
    """Timesteps whose features are concatenated."""
    batch_size: int = 5
    """Images per step, each with a pass per timestep: about the passes of a step of the fusion head."""
    pixels: int = 64
    """Pixels of every image that a member sees in a step."""
    learning_rate: float = 3e-3
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0


@dataclass(frozen=True)
class PixelViews:
    """Pixels of augmented copies of the examples."""

    features: Features
    """The generator's maps of the copies, all timesteps concatenated."""
    place_BKP2: Tensor
    """(x, y) of every pixel in [-1, 1]."""
    target_KRC: Tensor
    """Their class distributions; all zero where ignored."""


def fit_pixel_mlps(
    generator: FeatureSource,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: PixelMLPTrainConfig,
    *,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
) -> FittedHead:
    """Fit all members at once; with a checkpoint path the fit resumes where it was stopped."""
    augment = resolve(config.augment, examples, num_classes=len(classes))
    few = ExampleBatches(examples, classes, augment, config.batch_size, device)
    timesteps = config.timesteps if config.tap_timestep is None else (config.tap_timestep,)
    last = generator.num_train_timesteps - 1
    architecture = PixelMLPConfig(
        tap_channels=dict(generator.tap_channels),
        classes=tuple(classes),
        members=config.members,
        tap_timesteps=tuple(dict.fromkeys(min(timestep, last) for timestep in timesteps)),
    )
    batches = PixelBatches(generator, few, architecture, config.pixels, device)
    networks = _new_networks(architecture, batches, config.seed, device)
    result = fit(
        PixelObjective(networks),
        batches,
        FitConfig(steps=config.steps, learning_rate=config.learning_rate, ema_decay=0.98, seed=config.seed),
        device=device,
        progress=progress,
        stop=stop,
        checkpoint_path=checkpoint_path,
    )
    card = {
        "kind": PixelMLPLabeller.kind,
        "tap_timesteps": list(architecture.tap_timesteps),
        "members": config.members,
        "num_examples": len(examples),
        "num_parameters": sum(parameter.numel() for parameter in networks.parameters()),
        "cross_validation": [],
        "steps": result.steps,
        "seconds": result.seconds,
        "curves": result.curves,
    }
    return FittedHead(PixelMLPLabeller(generator, networks), card)


class PixelObjective(nn.Module):
    """Every member's cross-entropy on its own pixels."""

    def __init__(self, networks: PixelMLPs) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, views: PixelViews) -> dict[str, Tensor]:
        """Views -> {"loss"}."""
        logits = self.networks.at_pixels(views.features, views.place_BKP2)
        pairs = zip(logits, views.target_KRC, strict=True)
        return {
            "loss": torch.stack([soft_cross_entropy(logits_RC, target_RC) for logits_RC, target_RC in pairs]).mean()
        }


class PixelBatches:
    """Random pixels of fresh views of the examples."""

    def __init__(
        self,
        generator: FeatureSource,
        examples: ExampleBatches,
        config: PixelMLPConfig,
        pixels: int,
        device: torch.device,
    ) -> None:
        self.generator, self.examples, self.config = generator, examples, config
        self.pixels, self.device = pixels, device

    @torch.no_grad()
    def __call__(self, generator: torch.Generator) -> PixelViews:
        """The batch of a step."""
        image_BCHW, target_BCHW = self.examples(generator)
        count, _, height, width = image_BCHW.shape
        seeds = torch.randint(2**31, (count,), generator=generator).tolist()
        features = encode_at_all(self.generator, image_BCHW, self.config.tap_timesteps, seeds=seeds)
        shape = (count, self.config.members, self.pixels)
        x_BKP, y_BKP = (torch.randint(side, shape, generator=generator).to(self.device) for side in (width, height))
        place_BKP2 = torch.stack([(2 * x_BKP + 1) / width - 1, (2 * y_BKP + 1) / height - 1], dim=-1)
        image_B11 = torch.arange(count, device=self.device)[:, None, None]
        target_BKPC = target_BCHW.permute(0, 2, 3, 1)[image_B11, y_BKP, x_BKP]
        return PixelViews(features, place_BKP2, target_BKPC.transpose(0, 1).flatten(1, 2))


def _new_networks(config: PixelMLPConfig, batches: PixelBatches, seed: int, device: torch.device) -> PixelMLPs:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = PixelMLPs(config)
    networks.to(device)
    draw = torch.Generator().manual_seed(seed * 7919)
    seen = [batches(draw).features for _ in range(CALIBRATION_BATCHES)]
    networks.calibrate({name: torch.cat([features[name] for features in seen]) for name in seen[0]})
    return networks
