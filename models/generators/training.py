"""Trains a diffusion generator on a pool of unlabelled images, watched against held-out images of the same pool.

Axes: B batch, C channel, H height, W width. Pool images are uint8 BCHW; samples are float in [-1, 1], BCHW.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from models.contracts import Progress, Stop, Stopped
from models.generators.denoising import DenoisingObjective, batches_of, noisy_batch
from models.generators.network import NetworkConfig, network_for
from models.generators.quality import QualityReport, assess
from models.generators.symmetry import Symmetry, find_symmetry
from models.generators.unet_diffusion import UNetDiffusionGenerator
from models.precision import mixed_precision
from models.training import FitConfig, FitResult, fit

OnSamples = Callable[[int, Tensor], None]
"""`on_samples(step, images_BCHW)`: samples of the averaged weights, the same seeds every time."""

SMALLEST_POOL = 16
CURVE_POINTS = 400
MEMORISING = 1.25
"""Held-out loss over training loss from which the run warns that it is learning the pool by heart."""


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
    """None: chosen from the image size."""
    learning_rate: float = 8e-4
    ema_decay: float = 0.998
    seed: int = 0
    holdout_share: float = 0.05
    """Share of the pool never trained on; 0 switches the memorisation warning and the quality report off."""
    symmetry: Symmetry | None = None
    """Mirrors that make more data; None: found from the pool."""
    tap_timestep: int = 50
    """Default timestep of the features (DreamTeacher uses 50, method.md 1.2)."""
    report_every: int = 10
    samples_every: int = 500
    """Steps between sample sheets and held-out losses."""
    sample_count: int = 16
    sample_steps: int = 20
    quality_samples: int = 128
    """Samples drawn at the end to compare with real images."""
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("give steps or minutes, not both")
        if not 0 <= self.holdout_share <= 0.5:
            raise ValueError(f"holdout_share must be in [0, 0.5], got {self.holdout_share}")

    def loop(self) -> FitConfig:
        """The same budget in the words of the training loop."""
        minutes = 30.0 if self.minutes is None else self.minutes
        return FitConfig(
            steps=self.steps,
            seconds=None if self.steps is not None else minutes * 60,
            learning_rate=self.learning_rate,
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

    generator: UNetDiffusionGenerator
    samples_BCHW: Tensor
    """Samples for its sheet, float in [-1, 1]."""
    curves: dict[str, list[float]] = field(default_factory=dict)
    """`step` and `loss` of some hundred reports over the run; `train_loss`, `holdout_loss` of every sample sheet."""
    quality: QualityReport | None = None
    """None without held-out images."""
    warnings: list[str] = field(default_factory=list)


def train_generator(
    images_BCHW: Tensor,
    config: GeneratorTrainConfig,
    *,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
    on_samples: OnSamples | None = None,
) -> GeneratorTrainResult:
    """Trains on uint8 images and returns the generator with averaged weights.

    A checkpoint at `checkpoint_path` is continued from, with budget in steps to the same bits as an uninterrupted run.
    Raises Stopped after a checkpoint when `stop` says so, ValueError for a pool too small or sizes that do not fit.
    """
    if images_BCHW.dtype != torch.uint8 or images_BCHW.ndim != 4:
        raise ValueError(f"images must be uint8 BCHW, got {images_BCHW.dtype} {tuple(images_BCHW.shape)}")
    if len(images_BCHW) < SMALLEST_POOL:
        raise ValueError(f"a generator needs at least {SMALLEST_POOL} images, got {len(images_BCHW)}")
    device = torch.device(device)
    pool = split(images_BCHW, config)
    size = (int(images_BCHW.shape[1]), int(images_BCHW.shape[2]), int(images_BCHW.shape[3]))
    config = replace(
        config,
        network=config.network or network_for(size),
        symmetry=config.symmetry or find_symmetry(pool.train_BCHW, seed=config.seed),
    )
    assert config.network is not None
    assert config.symmetry is not None
    generator = UNetDiffusionGenerator.build(size, config.network, seed=config.seed).to(device)
    generator.facts.tap_timestep = config.tap_timestep
    watch = _Watch(generator, pool, config, device, progress, on_samples)
    fitted = fit(
        DenoisingObjective(generator),
        batches_of(generator, pool.train_BCHW, config.batch_size, config.symmetry, device),
        config.loop(),
        device=device,
        progress=watch.report,
        stop=stop,
        checkpoint_path=checkpoint_path,
        observe=watch.observe,
    )
    generator.unet.requires_grad_(False)
    return _finish(generator, fitted, config, pool, watch.losses(), stop)


@dataclass(frozen=True)
class Pool:
    """Images to learn from and images to measure against, uint8 BCHW."""

    train_BCHW: Tensor
    holdout_BCHW: Tensor
    """May be empty."""


def split(images_BCHW: Tensor, config: GeneratorTrainConfig) -> Pool:
    """Training and held-out images by the config's seed; held out are none or at least 8."""
    order = torch.randperm(len(images_BCHW), generator=torch.Generator().manual_seed(config.seed))
    count = max(8, round(len(images_BCHW) * config.holdout_share)) if config.holdout_share > 0 else 0
    return Pool(images_BCHW[order[count:]], images_BCHW[order[:count]])


class _Watch:
    """Looks at the averaged weights now and then: losses on fixed noise, and samples."""

    def __init__(
        self,
        generator: UNetDiffusionGenerator,
        pool: Pool,
        config: GeneratorTrainConfig,
        device: torch.device,
        progress: Progress | None,
        on_samples: OnSamples | None,
    ) -> None:
        self._generator, self._config, self._device = generator, config, device
        self._progress, self._on_samples = progress, on_samples
        self._watched = min(64, len(pool.holdout_BCHW))
        self._train_BCHW = pool.train_BCHW[: self._watched]
        self._holdout_BCHW = pool.holdout_BCHW[: self._watched]
        self._last: tuple[int, float] | None = None

    def observe(self, step: int, averaged: Callable[[], AbstractContextManager[None]]) -> Mapping[str, float]:
        """Called by the loop at every report; works every `samples_every` steps."""
        if step % self._config.samples_every:
            return {}
        with averaged():
            if self._on_samples is not None:
                self._on_samples(step, draw_samples(self._generator, self._config.sample_count, self._config))
            return self.losses()

    def losses(self) -> dict[str, float]:
        """Loss of the weights in place on as many training as held-out images, with the same noise and times."""
        if not self._watched:
            return {}
        found: dict[str, float] = {}
        for name, images_BCHW in (("train_loss", self._train_BCHW), ("holdout_loss", self._holdout_BCHW)):
            random = torch.Generator().manual_seed(self._config.seed)
            batch = noisy_batch(self._generator, images_BCHW, random, self._device)
            with torch.no_grad(), mixed_precision(self._device):
                predicted_BCHW = self._generator.unet(batch.noised_BCHW, batch.times_B).sample
            found[name] = float(mse_loss(predicted_BCHW.float(), batch.target_BCHW))
        return found

    def report(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Passes progress on, with images per second since the last report."""
        now, speed = time.monotonic(), {}
        if self._last is not None and now > self._last[1]:
            speed["images_per_second"] = (done - self._last[0]) * self._config.batch_size / (now - self._last[1])
        self._last = (done, now)
        if self._progress is not None:
            self._progress(done, total, {**metrics, **speed})


def draw_samples(
    generator: UNetDiffusionGenerator, count: int, config: GeneratorTrainConfig, stop: Stop | None = None
) -> Tensor:
    """`count` samples from seeds 0, 1, ... in batches, on the processor; raises Stopped when `stop` says so."""
    parts = []
    for start in range(0, count, 32):
        if stop is not None and stop():
            raise Stopped
        seeds = range(start, min(start + 32, count))
        parts.append(generator.sample(seeds, num_steps=config.sample_steps)[0].cpu())
    return torch.cat(parts)


def _finish(
    generator: UNetDiffusionGenerator,
    fitted: FitResult,
    config: GeneratorTrainConfig,
    pool: Pool,
    losses: Mapping[str, float],
    stop: Stop | None,
) -> GeneratorTrainResult:
    """Draws samples, measures them where images were held out, and writes down how the generator was made."""
    watched = len(pool.holdout_BCHW) > 0
    samples_BCHW = draw_samples(generator, config.quality_samples if watched else config.sample_count, config, stop)
    quality = None
    if watched and config.symmetry is not None:
        quality = assess(samples_BCHW, pool.train_BCHW, pool.holdout_BCHW, config.symmetry)
    warnings = _warnings(losses)
    generator.facts.training = {
        **asdict(config),
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 1),
        "train_images": len(pool.train_BCHW),
        "holdout_images": len(pool.holdout_BCHW),
        **losses,
        "quality": quality.as_json() if quality else None,
        "warnings": warnings,
    }
    return GeneratorTrainResult(generator, samples_BCHW, thinned(fitted.curves), quality, warnings)


def thinned(curves: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Every n-th value of curves longer than CURVE_POINTS and always the last, so that a card stays readable."""
    kept = {}
    for name, values in curves.items():
        stride = -(-len(values) // CURVE_POINTS) or 1
        kept[name] = values[::-stride][::-1]
    return kept


def _warnings(losses: Mapping[str, float]) -> list[str]:
    ratio = losses["holdout_loss"] / max(1e-9, losses["train_loss"]) if losses else 1.0
    if ratio <= MEMORISING:
        return []
    return [
        f"Loss on held-out images is {ratio:.2f} times the loss on training images: the generator begins to learn its "
        "pool by heart. Train it shorter or on more images."
    ]
