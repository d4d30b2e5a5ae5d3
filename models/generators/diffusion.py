"""What all diffusion generators do alike: deterministic sampling with features on the way, and encoding in one pass.

Axes: B batch, C channel, H height, W width. Images are float in [-1, 1], BCHW. A family says what its network sees
(*latents*), how it is asked and where it is tapped; steps, noise and seeds are the same for all. Features follow
DDPM-seg and DreamTeacher (method.md 1.1, 1.2, 4.6): maps of one denoising pass at timestep t. Epsilon- and
v-prediction alike: the scheduler knows which.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from models.contracts import Features
from models.generators.taps import Tap, Taps
from models.precision import mixed_precision


@dataclass(kw_only=True)
class DiffusionFacts:
    """What `generator.json` adds to a diffusers directory, in every diffusion family."""

    image_size: tuple[int, int, int]
    """(C, H, W)."""
    tap_names: tuple[str, ...]
    """Taps that `sample` and `encode` return, coarse to fine."""
    tap_timestep: int = 50
    training: dict[str, Any] = field(default_factory=dict)
    """What is known of its making: steps, images, seconds, losses, seed, data licence."""


class DiffusionGenerator(ABC):
    """Implements the diffusion part of `models.contracts.Generator` over a family's own network."""

    family: str
    can_sample = True
    can_encode = True
    fine_tuning_rate = 1e-5
    """Learning rate at which the whole network is trained on from good weights; Stable Diffusion's is customary."""
    facts: DiffusionFacts

    def __init__(
        self, denoiser: nn.Module, scheduler: DDIMScheduler, taps: Mapping[str, Tap], latent_stride: int
    ) -> None:
        self._denoiser = denoiser
        self.scheduler = scheduler
        self._taps = Taps(taps)
        self._latent_stride = latent_stride
        """Image pixels per latent pixel."""

    # --- what a family says ------------------------------------------------------------------------------------

    @abstractmethod
    def save(self, directory: Path | str) -> None:
        """Writes the family's directory, which its `load` reads."""

    @abstractmethod
    def to(self, device: torch.device | str) -> Self:
        """Moves the networks; results then lie on that device."""

    @abstractmethod
    def to_latent(self, images_BCHW: Tensor) -> Tensor:
        """Images in [-1, 1] -> what the network sees."""

    @abstractmethod
    def to_image(self, latents_BCHW: Tensor) -> Tensor:
        """The inverse of `to_latent`, as near as the family can."""

    @abstractmethod
    def _noise(self, seeds: Sequence[int]) -> Tensor:
        """Unit noise as latents, each image from its own seed."""

    @abstractmethod
    def _predict(self, latents_BCHW: Tensor, timestep: int | Tensor, conditions: Any) -> Tensor:
        """The network's answer (epsilon or v) in one pass; with guidance, of twice the batch, the conditioned half last.

        `timestep` is one for all, or one for each image (long, B).
        """

    def _drawn_conditions(self, seeds: Sequence[int]) -> Any:
        """What the sampled images are to show, each from its own seed; None where there is nothing to say."""
        del seeds

    def _encoding_conditions(self, count: int) -> Any:
        """What the network is told of real images, the same for all of them; None where there is nothing to say."""
        del count

    def training_conditions(self, count: int, random: torch.Generator) -> Any:
        """What the network is told of images to learn from; None where there is nothing to say."""
        del count, random

    # --- what it is --------------------------------------------------------------------------------------------

    @property
    def image_size(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.facts.image_size

    @property
    def tap_timestep(self) -> int:
        """Default timestep of the taps."""
        return self.facts.tap_timestep

    @property
    def num_train_timesteps(self) -> int:
        """Length of the diffusion."""
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def num_parameters(self) -> int:
        """Parameters of the denoiser."""
        return sum(p.numel() for p in self._denoiser.parameters())

    @property
    def device(self) -> torch.device:
        """Where the denoiser lies."""
        return next(self._denoiser.parameters()).device

    @property
    def available_taps(self) -> dict[str, tuple[int, int]]:
        """Every tap that `select_taps` knows -> (channels, image pixels per feature pixel), coarse to fine."""
        channels, strides = self._taps.channels, self._taps.strides
        return {name: (channels[name], strides[name] * self._latent_stride) for name in channels}

    @property
    def tap_channels(self) -> dict[str, int]:
        """Selected tap -> channels, coarse to fine."""
        return {name: self.available_taps[name][0] for name in self.facts.tap_names}

    @property
    def tap_strides(self) -> dict[str, int]:
        """Selected tap -> image pixels per feature pixel."""
        return {name: self.available_taps[name][1] for name in self.facts.tap_names}

    def select_taps(self, names: Sequence[str]) -> None:
        """Chooses which of `available_taps` are returned; kept by `save`. Raises ValueError for an unknown name."""
        known = tuple(self.available_taps)
        unknown = set(names) - set(known)
        if unknown or not names:
            raise ValueError(f"unknown taps {sorted(unknown)}, known are {known}")
        self.facts.tap_names = tuple(name for name in known if name in names)
        self._taps.select(self.facts.tap_names)

    # --- learning ----------------------------------------------------------------------------------------------

    @property
    def denoiser(self) -> nn.Module:
        """The network that is trained."""
        return self._denoiser

    def predict(self, latents_BCHW: Tensor, times_B: Tensor, conditions: Any) -> Tensor:
        """The network's answer (epsilon or v) to latents at their own timesteps, each under its condition."""
        return self._predict(latents_BCHW, times_B, conditions)

    # --- drawing and encoding ----------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self, seeds: Sequence[int], *, num_steps: int = 50, tap_timestep: int | None = None
    ) -> tuple[Tensor, Features]:
        """One image per seed by DDIM, and the features of the step nearest `tap_timestep` (no extra pass).

        Returns images_BCHW float32 in [-1, 1] and features.
        """
        tapped = self.tapped_timestep(num_steps, tap_timestep)
        timesteps = [int(t) for t in self.scheduler.timesteps]
        latents_BCHW, conditions = self._noise(seeds), self._drawn_conditions(seeds)
        features: Features = {}
        for timestep in timesteps:
            latents_BCHW, clean_BCHW, recorded = self._denoise(
                latents_BCHW, timestep, conditions, record=timestep == tapped
            )
            if timestep == tapped:
                features = self._features(recorded, clean_BCHW)
        return self.to_image(latents_BCHW).clamp(-1, 1), features

    def tapped_timestep(self, num_steps: int, tap_timestep: int | None = None) -> int:
        """The sampling step nearest `tap_timestep`: give this to `encode` for features of the very same kind.

        Raises ValueError unless 1 <= num_steps and its steps lie in [0, num_train_timesteps).
        """
        target = self._checked(tap_timestep)
        most = self.num_train_timesteps
        if 1 <= num_steps <= most:
            self.scheduler.set_timesteps(num_steps)
        # A schedule that counts from 1 has no room for as many steps as the diffusion is long.
        if not 1 <= num_steps <= most or int(self.scheduler.timesteps.max()) >= most:
            raise ValueError(f"num_steps must be in [1, {most}], of steps below {most}; got {num_steps}")
        return min((int(t) for t in self.scheduler.timesteps), key=lambda t: abs(t - target))

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor, *, tap_timestep: int | None = None, seeds: Sequence[int]) -> Features:
        """Noises images in [-1, 1] to the timestep, one seed each, and returns the features of one pass.

        The pass ends at the last map, unless a tap needs the network's answer.
        """
        if tuple(images_BCHW.shape[1:]) != self.image_size or len(seeds) != len(images_BCHW):
            raise ValueError(f"expected {len(seeds)} images of {self.image_size}, got {tuple(images_BCHW.shape)}")
        timestep = self._checked(tap_timestep)
        latents_BCHW = self.to_latent(images_BCHW.to(self.device, torch.float32))
        times_B = torch.full((len(seeds),), timestep, device=self.device)
        noised_BCHW = self.scheduler.add_noise(latents_BCHW, self._noise(seeds), times_B)
        conditions = self._encoding_conditions(len(seeds))
        if set(self.facts.tap_names) <= set(self._taps.channels):
            with mixed_precision(self.device), self._taps.recording_only() as recorded:
                self._predict(noised_BCHW, timestep, conditions)
            return self._features(recorded, None)
        self.scheduler.set_timesteps(self.num_train_timesteps)
        _, clean_BCHW, recorded = self._denoise(noised_BCHW, timestep, conditions, record=True)
        return self._features(recorded, clean_BCHW)

    def _checked(self, timestep: int | None) -> int:
        chosen = self.tap_timestep if timestep is None else timestep
        if not 0 <= chosen < self.num_train_timesteps:
            raise ValueError(f"tap_timestep must be in [0, {self.num_train_timesteps}), got {chosen}")
        return chosen

    def _denoise(
        self, latents_BCHW: Tensor, timestep: int, conditions: Any, *, record: bool
    ) -> tuple[Tensor, Tensor, Features]:
        """One step: the less noisy latents, the guess of the clean ones, and the recorded maps (empty if not asked)."""
        with mixed_precision(self.device), self._taps.recording(record) as recorded:
            output_BCHW = self._predict(latents_BCHW, timestep, conditions)
        recorded = {name: map_BCHW[-len(latents_BCHW) :] for name, map_BCHW in recorded.items()}
        step = self.scheduler.step(output_BCHW.float(), timestep, latents_BCHW)
        return step.prev_sample, step.pred_original_sample, recorded

    def _features(self, recorded: Features, clean_BCHW: Tensor | None) -> Features:
        """The selected maps; `clean_BCHW` is the guess of the clean latents where it is known, for families that show it."""
        del clean_BCHW
        return {name: recorded[name].float() for name in self.facts.tap_names}


def drawn_noise(shape: tuple[int, int, int], seeds: Sequence[int], device: torch.device) -> Tensor:
    """Unit noise BCHW, each image from its own seed, drawn on the processor so that devices agree."""
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(device)
