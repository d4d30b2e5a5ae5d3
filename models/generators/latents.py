"""Latent diffusion, whatever its denoiser: the autoencoder, what the denoiser is told, and guidance.

Axes: B batch, C channel, H height, W width. Images are float in [-1, 1], BCHW.
What a denoiser is told of an image (a prompt, a class) is a *condition*: a whole number, one of which says nothing.
Guidance: Ho & Salimans 2022, "Classifier-free diffusion guidance", equation 6 as diffusers writes it.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor, nn

from models.generators.diffusion import DiffusionFacts, DiffusionGenerator, drawn_noise
from models.generators.taps import Tap

CHOICE_STREAM = 0x5DEECE66D
"""Mixed into a seed where it chooses a condition, so that the choice is not one with the noise."""
UNTOLD_SHARE = 0.1
"""Share of the images that are learned from under the condition that says nothing."""


@dataclass(kw_only=True)
class LatentFacts(DiffusionFacts):
    """What `generator.json` adds to the directory of a latent diffusion."""

    guidance_scale: float = 1.0
    """How far sampling leaves the unconditioned answer; up to 1 there is no guidance and half the cost."""

    def __post_init__(self) -> None:
        if not 0 <= self.guidance_scale <= 100:
            raise ValueError(f"guidance_scale must be in [0, 100], got {self.guidance_scale}")


class LatentCodec:
    """Encodes and decodes with an `AutoencoderKL`, in the denoiser's units (mean 0, variance near 1).

    In float32, one image at a time: an autoencoder's maps at full resolution need more memory than all the rest.
    """

    def __init__(self, vae: AutoencoderKL, image_size: tuple[int, int, int]) -> None:
        self.vae = vae
        vae.enable_slicing()
        config = vae.config
        self.stride = 2 ** (len(config.block_out_channels) - 1)
        """Image pixels per latent pixel."""
        channels, height, width = image_size
        if channels != config.in_channels or height % self.stride or width % self.stride:
            raise ValueError(
                f"generator.json: image_size {list(image_size)} does not fit the autoencoder, which reads "
                f"{config.in_channels} channels and sides that are multiples of {self.stride}"
            )
        self.latent_size = (int(config.latent_channels), height // self.stride, width // self.stride)
        """(C, H, W) of the latents."""
        mean, spread = config.latents_mean or [config.shift_factor or 0.0], config.latents_std or [1.0]
        self._mean_CHW = torch.tensor(mean).view(-1, 1, 1)
        self._scale_CHW = torch.tensor(spread).view(-1, 1, 1) / config.scaling_factor

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Images -> latents: the mean of what the encoder gives, so that no noise is drawn."""
        latents_BCHW = self.vae.encode(images_BCHW).latent_dist.mode()
        return (latents_BCHW - self._mean_CHW.to(latents_BCHW)) / self._scale_CHW.to(latents_BCHW)

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Latents -> images, not clamped."""
        latents_BCHW = latents_BCHW * self._scale_CHW.to(latents_BCHW) + self._mean_CHW.to(latents_BCHW)
        images_BCHW: Tensor = self.vae.decode(latents_BCHW).sample
        return images_BCHW


class LatentGenerator(DiffusionGenerator):
    """A diffusion in an autoencoder's latents; a family adds its denoiser and what its conditions mean."""

    facts: LatentFacts
    untold: int
    """The condition that says nothing."""
    told: int
    """The condition under which real images are encoded."""
    offered: tuple[int, ...]
    """The conditions of which each sampled image draws one."""

    def __init__(
        self,
        denoiser: nn.Module,
        scheduler: DDIMScheduler,
        codec: LatentCodec,
        taps: Mapping[str, Tap],
        facts: LatentFacts,
    ) -> None:
        if denoiser.config.in_channels != codec.latent_size[0]:
            raise ValueError(
                f"the denoiser reads {denoiser.config.in_channels} channels, the autoencoder has {codec.latent_size[0]}: "
                "inpainting, depth and upscaling networks are not generators"
            )
        super().__init__(denoiser, scheduler, taps, codec.stride)
        self._codec = codec
        self.facts = facts
        self.select_taps(facts.tap_names)

    @abstractmethod
    def _ask(self, latents_BCHW: Tensor, timestep: int | Tensor, conditions_B: Tensor) -> Tensor:
        """The denoiser's answer (epsilon or v) in one pass, each image under its condition."""

    def to_latent(self, images_BCHW: Tensor) -> Tensor:
        """Images in [-1, 1] -> latents."""
        return self._codec.encode(images_BCHW)

    def to_image(self, latents_BCHW: Tensor) -> Tensor:
        """Latents -> images, not clamped."""
        return self._codec.decode(latents_BCHW)

    def _noise(self, seeds: Sequence[int]) -> Tensor:
        return drawn_noise(self._codec.latent_size, seeds, self.device)

    def _drawn_conditions(self, seeds: Sequence[int]) -> Tensor:
        """One condition per seed; with guidance as many that say nothing before them."""
        drawn_B = torch.tensor([self._drawn(seed) for seed in seeds], device=self.device)
        if self.facts.guidance_scale <= 1 or bool((drawn_B == self.untold).all()):
            return drawn_B
        return torch.cat([torch.full_like(drawn_B, self.untold), drawn_B])

    def _drawn(self, seed: int) -> int:
        draw = torch.Generator().manual_seed(seed ^ CHOICE_STREAM)
        return self.offered[int(torch.randint(len(self.offered), (), generator=draw))]

    def _encoding_conditions(self, count: int) -> Tensor:
        return torch.full((count,), self.told, device=self.device)

    def training_conditions(self, count: int, random: torch.Generator) -> Tensor:
        """The condition of real images, now and then none (Ho & Salimans 2022, algorithm 1): guidance needs both."""
        told_B = self._encoding_conditions(count)
        silent_B = (torch.rand(count, generator=random) < UNTOLD_SHARE).to(told_B.device)
        return torch.where(silent_B, torch.full_like(told_B, self.untold), told_B)

    def _predict(self, latents_BCHW: Tensor, timestep: int | Tensor, conditions: Tensor) -> Tensor:
        if len(conditions) == len(latents_BCHW):
            return self._ask(latents_BCHW, timestep, conditions)
        answer_BCHW = self._ask(torch.cat([latents_BCHW, latents_BCHW]), timestep, conditions)
        untold_BCHW, told_BCHW = answer_BCHW.chunk(2)
        return untold_BCHW + self.facts.guidance_scale * (told_BCHW - untold_BCHW)
