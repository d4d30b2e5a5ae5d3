"""What is seen of a generator while it trains: samples, losses, distances, and the first signs of learning by heart.

Axes: B batch, C channel, H height, W width, D feature dimension. Pool images are uint8 BCHW; samples are float in
[-1, 1], BCHW. Everything is seen on the averaged weights, the same few samples from the same seeds every time, so that
looks compare with each other; the report at the end of training has more samples and more sampling steps.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from models.contracts import Progress, Stop, Stopped
from models.generators.denoising import denoising_loss, noisy_batch
from models.generators.diffusion import DiffusionGenerator
from models.generators.fixed_features import kernel_distance
from models.generators.pool import Pool
from models.generators.quality import copied_share, features_of, nearest_two
from models.generators.symmetry import Symmetry
from models.precision import mixed_precision

OnSamples = Callable[[int, Tensor], None]
"""`on_samples(step, images_BCHW)`: samples of the averaged weights, the same seeds every time."""
OnWarning = Callable[[str], None]
"""`on_warning(words)`: something that whoever trains should know now; each thing is said once."""

EARLY = 0.3
"""The first look comes after this share of `WatchConfig.every`: nobody waits long to see that it learns."""
MEMORISING = 1.25
"""Held-out loss over training loss from which the run warns that it is learning the pool by heart."""
COPYING = 0.1
"""Share of copies among the samples, beyond that among held-out images, from which the run warns."""
LOSS_IMAGES = 64
"""Images of either kind that the losses are taken on."""
MEASURED_HOLDOUT = 512
"""Most held-out images that looks measure against; the report at the end has all of them."""
MEASURED_TRAIN = 4096
"""Most training images that looks search for copies; the report at the end searches all of them."""


@dataclass(frozen=True)
class WatchConfig:
    """How often and how closely to look. By its passes through the network, a look costs at most 3 % of `every`
    steps of 8 images (32 samples x 10 sampling steps against 500 x 8 images x 3 for forward and backward)."""

    every: int = 500
    """Steps between looks."""
    samples: int = 32
    sampling_steps: int = 10
    shown: int = 16
    """Samples of the sheet."""

    def __post_init__(self) -> None:
        if self.samples < 2:
            raise ValueError(f"samples must be 2 or more to be a distribution, got {self.samples}")

    def due(self, step: int, since: int) -> bool:
        """Whether a look belongs between the steps `since` (exclusive) and `step` (inclusive)."""

        def looks(until: int) -> int:
            return until // self.every + (until >= EARLY * self.every)

        return looks(step) > looks(since)


class Watch:
    """Looks at a generator now and then; `observe` and `report` are for `models.training.fit`."""

    def __init__(
        self,
        generator: DiffusionGenerator,
        pool: Pool,
        symmetry: Symmetry,
        config: WatchConfig,
        *,
        device: torch.device,
        seed: int,
        batch_size: int,
        report_every: int,
        progress: Progress | None = None,
        on_samples: OnSamples | None = None,
        on_warning: OnWarning | None = None,
    ) -> None:
        self._generator, self._symmetry, self._config = generator, symmetry, config
        self._device, self._seed, self._batch_size, self._report_every = device, seed, batch_size, report_every
        self._progress, self._on_samples, self._on_warning = progress, on_samples, on_warning
        watched = min(LOSS_IMAGES, len(pool.holdout_BCHW))
        self._losses_of = {
            "train_loss": pool.train_BCHW[:watched],
            "holdout_loss": pool.holdout_BCHW[:watched],
        }
        self._train_BCHW = pool.train_BCHW[:MEASURED_TRAIN]
        self._holdout_BCHW = pool.holdout_BCHW[:MEASURED_HOLDOUT]
        self._real: _Real | None = None
        self._seen: dict[str, float] = {}
        self._said: set[str] = set()
        self._last: tuple[int, float] | None = None
        self._speed: dict[str, float] = {}

    def observe(self, step: int, averaged: Callable[[], AbstractContextManager[None]]) -> Mapping[str, float]:
        """Called by the loop at every report; answers the numbers of a look where one is due, else nothing."""
        if not self._config.due(step, step - self._report_every):
            return {}
        with averaged():
            return self.look(step)

    def look(self, step: int) -> dict[str, float]:
        """Samples, losses and distances of the weights in place; `look_step` tells when they were taken."""
        samples_BCHW = draw_samples(self._generator, self._config.samples, self._config.sampling_steps)
        if self._on_samples is not None:
            self._on_samples(step, samples_BCHW[: self._config.shown].cpu())
        self._seen = {**self._losses(), **self._measured(samples_BCHW), "look_step": float(step)}
        for sign, words in signs(self._seen).items():
            if self._on_warning is not None and sign not in self._said:
                self._on_warning(f"{words} (seen after step {step})")
            self._said.add(sign)
        # A look is no training: the pace is measured from here on.
        self._last = None
        return self._seen

    def report(self, done: int, total: int, metrics: Mapping[str, float]) -> None:
        """Passes progress on, with the numbers of the last look and the images per second since the last report."""
        now = time.monotonic()
        if self._last is not None and now > self._last[1]:
            pace = (done - self._last[0]) * self._batch_size / (now - self._last[1])
            self._speed = {"images_per_second": pace}
        self._last = (done, now)
        if self._progress is not None:
            self._progress(done, total, {**metrics, **self._speed, **self._seen})

    @torch.no_grad()
    def _measured(self, samples_BCHW: Tensor) -> dict[str, float]:
        if len(self._holdout_BCHW) == 0:
            return {}
        if self._real is None:
            holdout_BCHW = self._holdout_BCHW.to(self._device)
            nearest_B2 = nearest_two(holdout_BCHW, self._train_BCHW, self._symmetry)
            self._real = _Real(features_of(holdout_BCHW), float(nearest_B2[:, 0].median()), copied_share(nearest_B2))
        nearest_B2 = nearest_two(samples_BCHW, self._train_BCHW, self._symmetry)
        return {
            "kernel_distance": kernel_distance(self._real.features_BD, features_of(samples_BCHW)),
            "copied_share": copied_share(nearest_B2),
            "nearest_ratio": float(nearest_B2[:, 0].median()) / max(1e-9, self._real.nearest),
            "copied_share_of_real": self._real.copied_share,
        }

    def _losses(self) -> dict[str, float]:
        """Loss on as many training as held-out images, with the same noise and times."""
        found: dict[str, float] = {}
        for name, images_BCHW in self._losses_of.items():
            if len(images_BCHW) == 0:
                continue
            batch = noisy_batch(self._generator, images_BCHW, torch.Generator().manual_seed(self._seed), self._device)
            with torch.no_grad(), mixed_precision(self._device):
                found[name] = float(denoising_loss(self._generator, batch))
        return found


@dataclass(frozen=True)
class _Real:
    """What held-out images get, computed once."""

    features_BD: Tensor
    nearest: float
    """Median distance to the nearest training image."""
    copied_share: float


def signs(seen: Mapping[str, float]) -> dict[str, str]:
    """Signs of learning by heart in the numbers of a look: kind of sign -> what to tell."""
    found = {}
    ratio = seen.get("holdout_loss", 0.0) / max(1e-9, seen.get("train_loss", 1.0))
    if ratio > MEMORISING:
        found["loss"] = (
            f"Loss on held-out images is {ratio:.2f} times the loss on training images: the generator begins to learn "
            "its pool by heart. Train it shorter or on more images."
        )
    copied, usual = seen.get("copied_share", 0.0), seen.get("copied_share_of_real", 0.0)
    if copied > usual + COPYING:
        found["copies"] = (
            f"{copied:.0%} of the samples are at least three times nearer to one training image than to any other "
            f"(held-out images: {usual:.0%}): the generator replays its pool. Train it shorter or on more images."
        )
    return found


def draw_samples(generator: DiffusionGenerator, count: int, sampling_steps: int, stop: Stop | None = None) -> Tensor:
    """`count` samples from seeds 0, 1, ... in batches, on the generator's device; raises Stopped when `stop` says so."""
    parts = []
    for start in range(0, count, 32):
        if stop is not None and stop():
            raise Stopped
        seeds = range(start, min(start + 32, count))
        parts.append(generator.sample(seeds, num_steps=sampling_steps)[0])
    return torch.cat(parts)
