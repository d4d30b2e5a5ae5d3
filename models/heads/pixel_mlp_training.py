"""Fitting the pixel classifiers to a few annotated images on a frozen generator (DatasetGAN, DDPM-seg; method.md 4.1).

As in the papers: cross-entropy and Adam at 1e-3 on random pixels of the images as they are, whose features are computed
once; every member has its own pixels and its own initial weights. (Freshly augmented views, as the fusion head has
them, were tried: without context, changed tones and scales cost these classifiers more than they teach.) Otherwise than
there: features are kept at their own resolution, of a few copies of each image, mirrored where the labels allow it and
each with its own noise; they are standardised; the weights decay a little and are averaged; and the budget is a number
of steps with a cosine schedule, not epochs that end when a single batch's loss no longer falls.
Axes: B batch, C channel, H, W, K members, P pixels of an image, R rows (pixels of all images).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from models.augmentation import measure_symmetry, mirrors
from models.contracts import ClassSpec, Features, FeatureSource, Progress, Stop, Stopped
from models.distillation import soft_cross_entropy
from models.examples import Example, to_float_images
from models.heads.pixel_mlp import PixelMLPConfig, PixelMLPs, encode_at_all
from models.heads.pixel_mlp_labeller import PixelMLPLabeller
from models.heads.tap_blocks import chosen_blocks
from models.labelling import FittedHead
from models.students.batches import one_hot_targets
from models.training import FitConfig, fit, thinned

MAX_BANK_BYTES = 2**30
"""Features beyond this are kept of one copy of every image only."""
ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class PixelMLPTrainConfig:
    """The ensemble's size and budget."""

    members: int = 10
    steps: int = 800
    """Optimiser steps."""
    tap_timestep: int | None = None
    """The only timestep of the features; None = all of `timesteps`."""
    timesteps: tuple[int, ...] = (50, 150, 250)
    """Timesteps whose features are concatenated."""
    tap_blocks: tuple[str, ...] | None = None
    """Taps of the generator that are read; None = all of them."""
    copies: int = 8
    """Copies of every image: each mirrored otherwise where that means the same, and with its own noise."""
    batch_size: int = 8
    """Copies per step."""
    pixels: int = 32
    """Pixels of every copy that a member sees in a step."""
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class PixelBank:
    """All that is ever seen: the features and labels of the copies."""

    features: Features
    """The generator's maps, all timesteps concatenated, at their own resolution."""
    target_BCHW: Tensor
    """Class distributions at the image's resolution; all zero where ignored."""


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
    timesteps = config.timesteps if config.tap_timestep is None else (config.tap_timestep,)
    last = generator.num_train_timesteps - 1
    architecture = PixelMLPConfig(
        tap_channels=chosen_blocks(generator, config.tap_blocks),
        classes=tuple(classes),
        members=config.members,
        tap_timesteps=tuple(dict.fromkeys(min(timestep, last) for timestep in timesteps)),
    )
    bank = encode_bank(generator, examples, classes, architecture.tap_timesteps, config, device=device, stop=stop)
    networks = _new_networks(architecture, bank, config.seed, device)
    result = fit(
        PixelObjective(networks),
        PixelBatches(bank, config),
        FitConfig(steps=config.steps, learning_rate=config.learning_rate, ema_decay=0.98, seed=config.seed),
        device=device,
        progress=progress,
        stop=stop,
        checkpoint_path=checkpoint_path,
    )
    card = {
        "kind": PixelMLPLabeller.kind,
        "tap_timesteps": list(architecture.tap_timesteps),
        "tap_blocks": list(architecture.tap_channels),
        "members": config.members,
        "num_examples": len(examples),
        "num_parameters": sum(parameter.numel() for parameter in networks.parameters()),
        "cross_validation": [],
        "steps": result.steps,
        "seconds": result.seconds,
        "curves": thinned(result.curves),
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
    """Random pixels of random copies."""

    def __init__(self, bank: PixelBank, config: PixelMLPTrainConfig) -> None:
        self.bank, self.config = bank, config

    def __call__(self, generator: torch.Generator) -> PixelViews:
        """The batch of a step."""
        total, _, height, width = self.bank.target_BCHW.shape
        device = self.bank.target_BCHW.device
        count = min(total, self.config.batch_size)
        copy_B = torch.randperm(total, generator=generator)[:count].to(device)
        shape = (count, self.config.members, self.config.pixels)
        x_BKP, y_BKP = (torch.randint(side, shape, generator=generator).to(device) for side in (width, height))
        place_BKP2 = torch.stack([(2 * x_BKP + 1) / width - 1, (2 * y_BKP + 1) / height - 1], dim=-1)
        target_BKPC = self.bank.target_BCHW.permute(0, 2, 3, 1)[copy_B[:, None, None], y_BKP, x_BKP]
        features = {name: map_BCHW[copy_B] for name, map_BCHW in self.bank.features.items()}
        return PixelViews(features, place_BKP2, target_BKPC.transpose(0, 1).flatten(1, 2))


@torch.no_grad()
def encode_bank(
    generator: FeatureSource,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    tap_timesteps: Sequence[int],
    config: PixelMLPTrainConfig,
    *,
    device: torch.device,
    stop: Stop | None = None,
) -> PixelBank:
    """Features of the copies, one pass of the generator per copy and timestep. Raises Stopped between passes."""
    image_BCHW = to_float_images([example.image_HWC for example in examples])
    target_BCHW = one_hot_targets(examples, classes)
    axes_to_flip = mirrors(*measure_symmetry(examples, num_classes=len(classes)))
    draw = torch.Generator().manual_seed(config.seed * 7919)
    chunks: list[Features] = []
    targets: list[Tensor] = []
    for copy in range(_num_copies(generator, config.copies, len(axes_to_flip), len(examples), len(tap_timesteps))):
        axes = axes_to_flip[copy % len(axes_to_flip)]
        targets.append(target_BCHW.flip(axes).to(device))
        for seen_BCHW in image_BCHW.flip(axes).to(device).split(ENCODED_AT_ONCE):
            if stop is not None and stop():
                raise Stopped
            seeds = torch.randint(2**31, (len(seen_BCHW),), generator=draw).tolist()
            chunks.append(encode_at_all(generator, seen_BCHW, tap_timesteps, seeds=seeds))
    features = {name: torch.cat([chunk[name] for chunk in chunks]) for name in chunks[0]}
    return PixelBank(features, torch.cat(targets))


def _num_copies(generator: FeatureSource, wanted: int, num_mirrors: int, num_examples: int, num_timesteps: int) -> int:
    """As many as are wanted, differ, and fit into memory; at least one."""
    _, height, width = generator.image_size
    numbers = sum(
        channels * (height // generator.tap_strides[name]) * (width // generator.tap_strides[name])
        for name, channels in generator.tap_channels.items()
    )
    fitting = MAX_BANK_BYTES // max(1, 4 * numbers * num_timesteps * num_examples)
    different = wanted if generator.num_train_timesteps > 1 else num_mirrors
    return max(1, min(wanted, different, fitting))


def _new_networks(config: PixelMLPConfig, bank: PixelBank, seed: int, device: torch.device) -> PixelMLPs:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = PixelMLPs(config)
    networks.to(device)
    networks.calibrate(bank.features)
    return networks
