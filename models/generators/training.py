"""Trains a diffusion generator on a pool of unlabelled images, watched against held-out images of the same pool.

Axes: B batch, C channel, H height, W width. Pool images are uint8 BCHW; samples are float in [-1, 1], BCHW.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from models.contracts import Progress, Stop
from models.generators import adapters
from models.generators.adapters import adapted
from models.generators.card import trend
from models.generators.denoising import DenoisingObjective, batches_of
from models.generators.diffusion import DiffusionGenerator
from models.generators.families import load_source
from models.generators.network import NetworkConfig, network_for
from models.generators.pool import SMALLEST_POOL, Pool, split
from models.generators.quality import QualityReport, assess
from models.generators.symmetry import Symmetry, find_symmetry
from models.generators.unet_diffusion import UNetDiffusionGenerator
from models.generators.watch import OnSamples, OnWarning, Watch, WatchConfig, draw_samples, signs
from models.training import FitConfig, FitResult, fit, thinned
from models.training_group import ALONE, Group, rows_of

FROM_SCRATCH = 8e-4
"""Learning rate of a generator that begins with random weights."""
MOST_LOOKS = 12
SEEN = ("look_step", "train_loss", "holdout_loss", "kernel_distance", "nearest_ratio", "copied_share")
"""What of the looks is written into the card."""


@dataclass(frozen=True)
class GeneratorTrainConfig:
    """How to train; at most one of `steps` and `minutes`. Defaults suit some thousand small images on two cores."""

    steps: int | None = None
    """Optimiser steps; deterministic."""
    minutes: float | None = None
    """Wall-clock budget; 30 when neither is given."""
    batch_size: int = 8
    """Small batches learn most from each image when a processor is the limit (docs/decisions/0030); an accelerator
    that is not filled by 8 images takes 32 or 64 at the same pace."""
    network: NetworkConfig | None = None
    """None: chosen from the image size; a base generator brings its own."""
    learning_rate: float | None = None
    """None: FROM_SCRATCH, or the family's own rate for fine-tuning a base generator."""
    lora_rank: int | None = None
    """Of a base generator train low-rank adapters alone; None: all of its weights."""
    ema_decay: float = 0.998
    seed: int = 0
    holdout_share: float = 0.05
    """Share of the pool never trained on; 0 switches the memorisation warning and the quality report off."""
    symmetry: Symmetry | None = None
    """Mirrors that make more data; None: found from the pool."""
    tap_timestep: int = 50
    """Default timestep of a new generator's features (DreamTeacher uses 50, method.md 1.2)."""
    report_every: int = 10
    watch: WatchConfig = field(default_factory=WatchConfig)
    """How often it is looked at while it trains."""
    sample_steps: int = 20
    """Sampling steps of the samples at the end."""
    quality_samples: int = 128
    """Samples drawn at the end to compare with real images."""
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("give steps or minutes, not both")
        if self.lora_rank is not None and self.lora_rank < 1:
            raise ValueError(f"lora_rank must be 1 or more, got {self.lora_rank}")
        if not 0 <= self.holdout_share <= 0.5:
            raise ValueError(f"holdout_share must be in [0, 0.5], got {self.holdout_share}")

    def loop(self) -> FitConfig:
        """The same budget in the words of the training loop."""
        minutes = 30.0 if self.minutes is None else self.minutes
        return FitConfig(
            steps=self.steps,
            seconds=None if self.steps is not None else minutes * 60,
            learning_rate=self.learning_rate or FROM_SCRATCH,
            warmup_share=0.03,
            final_share=0.02,
            ema_decay=self.ema_decay,
            seed=self.seed,
            report_every=self.report_every,
            checkpoint_seconds=self.checkpoint_seconds,
        )


@dataclass(frozen=True)
class GeneratorTrainResult:
    """A trained generator and what is known of its making."""

    generator: DiffusionGenerator
    samples_BCHW: Tensor
    """Samples for its sheet, float in [-1, 1]."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """`step` and `loss` of some hundred reports over the run; of every look its `look_step`, losses and distances."""
    quality: QualityReport | None = None
    """None without held-out images."""
    warnings: list[str] = field(default_factory=list)


def load_base(directory: Path, device: torch.device | str = "cpu") -> DiffusionGenerator:
    """A generator to train on. Raises ValueError for a family that is not trained, and what `load_source` raises."""
    source = load_source(directory, device)
    if not isinstance(source, DiffusionGenerator):
        raise ValueError(f"a generator of the family {source.family} cannot be trained")
    return source


def train_generator(
    images_BCHW: Tensor,
    config: GeneratorTrainConfig,
    *,
    base: DiffusionGenerator | None = None,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
    on_samples: OnSamples | None = None,
    on_warning: OnWarning | None = None,
    group: Group = ALONE,
) -> GeneratorTrainResult:
    """Trains on uint8 images and returns the generator with averaged weights.

    A `base` is trained on in place, whatever its family of diffusion; without one, a pixel diffusion begins anew.
    A checkpoint at `checkpoint_path` is continued from, with budget in steps to the same bits as an uninterrupted run.
    In a group every process calls this with the same arguments; those that do not lead answer without samples.
    Raises Stopped after a checkpoint when `stop` says so, ValueError for a pool too small or sizes that do not fit.
    """
    if images_BCHW.dtype != torch.uint8 or images_BCHW.ndim != 4:
        raise ValueError(f"images must be uint8 BCHW, got {images_BCHW.dtype} {tuple(images_BCHW.shape)}")
    if len(images_BCHW) < SMALLEST_POOL:
        raise ValueError(f"a generator needs at least {SMALLEST_POOL} images, got {len(images_BCHW)}")
    device = torch.device(device)
    pool = split(images_BCHW, holdout_share=config.holdout_share, seed=config.seed)
    config = replace(config, symmetry=config.symmetry or find_symmetry(pool.train_BCHW, seed=config.seed))
    generator, config = _begun(base, tuple(images_BCHW.shape[1:]), config)
    generator.to(device)
    assert config.symmetry is not None
    watch = Watch(
        generator,
        pool,
        config.symmetry,
        config.watch,
        device=device,
        seed=config.seed,
        batch_size=config.batch_size,
        report_every=config.report_every,
        progress=progress,
        on_samples=on_samples,
        on_warning=on_warning,
    )
    with adapted(generator.denoiser, config.lora_rank, seed=config.seed):
        fitted = fit(
            DenoisingObjective(generator),
            batches_of(
                generator,
                pool.train_BCHW,
                config.batch_size,
                config.symmetry,
                device,
                rows_of(group, config.batch_size),
            ),
            config.loop(),
            device=device,
            progress=watch.report,
            stop=stop,
            checkpoint_path=checkpoint_path,
            observe=watch.observe,
            group=group,
        )
    if group.rank > 0:
        return GeneratorTrainResult(generator, images_BCHW.new_empty((0, *images_BCHW.shape[1:])))
    _look_at_the_end(watch, fitted)
    return _finish(generator, fitted, config, pool, stop)


def _begun(
    base: DiffusionGenerator | None, image_size: tuple[int, ...], config: GeneratorTrainConfig
) -> tuple[DiffusionGenerator, GeneratorTrainConfig]:
    """The generator as it begins, and the config with what that decides. Raises ValueError for another image size."""
    if base is not None:
        if base.image_size != image_size or config.network is not None:
            raise ValueError(
                f"the base generator makes images of {base.image_size} with its own network; got images of {image_size} "
                f"and network {config.network}"
            )
        rate = base.fine_tuning_rate if config.lora_rank is None else adapters.RATE
        return base, replace(config, learning_rate=config.learning_rate or rate)
    if config.lora_rank is not None:
        raise ValueError("lora_rank is for a base generator: random weights must all learn")
    channels, height, width = image_size
    size = (channels, height, width)
    config = replace(
        config, network=config.network or network_for(size), learning_rate=config.learning_rate or FROM_SCRATCH
    )
    assert config.network is not None
    generator = UNetDiffusionGenerator.build(size, config.network, seed=config.seed)
    generator.facts.tap_timestep = config.tap_timestep
    return generator, config


def _look_at_the_end(watch: Watch, fitted: FitResult) -> None:
    """The curves of looks end with what the finished weights give."""
    looked = fitted.curves.get("look_step", [])
    if not looked or looked[-1] != fitted.steps:
        for name, value in watch.look(fitted.steps).items():
            fitted.curves.setdefault(name, []).append(value)
        watch.report(
            fitted.steps, fitted.steps, {name: fitted.curves[name][-1] for name in ("loss",) if name in fitted.curves}
        )


def _finish(
    generator: DiffusionGenerator,
    fitted: FitResult,
    config: GeneratorTrainConfig,
    pool: Pool,
    stop: Stop | None,
) -> GeneratorTrainResult:
    """Draws samples, measures them where images were held out, and writes down how the generator was made."""
    assert config.symmetry is not None
    watched = len(pool.holdout_BCHW) > 0
    count = config.quality_samples if watched else config.watch.shown
    samples_BCHW = draw_samples(generator, count, config.sample_steps, stop)
    quality = assess(samples_BCHW, pool.train_BCHW, pool.holdout_BCHW, config.symmetry) if watched else None
    losses = {name: fitted.curves[name][-1] for name in ("train_loss", "holdout_loss") if watched}
    copies = {name: getattr(quality, name) for name in ("copied_share", "copied_share_of_real") if quality}
    warnings = list(signs({**losses, **copies}).values())
    seen = looks(fitted.curves)
    generator.facts.training = {
        **asdict(config),
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 1),
        "train_images": len(pool.train_BCHW),
        "holdout_images": len(pool.holdout_BCHW),
        **losses,
        "looks": seen,
        "outlook": trend(seen),
        "quality": quality.as_json() if quality else None,
        "warnings": warnings,
    }
    return GeneratorTrainResult(generator, samples_BCHW.cpu(), thinned(fitted.curves), quality, warnings)


def looks(curves: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Of the curves what the looks saw, at most MOST_LOOKS of them: every n-th, the last always."""
    names = [name for name in SEEN if name in curves]
    stride = -(-len(curves.get("look_step", [])) // MOST_LOOKS) or 1
    return {name: [round(value, 5) for value in curves[name][::-stride][::-1]] for name in names}
