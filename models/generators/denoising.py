"""The denoising objective and its batches: what `models.training.fit` needs to train a diffusion generator.

Axes: B batch, C channel, H height, W width. Pool images are uint8 BCHW; latents are what the generator's network sees, BCHW.
What the network predicts is its scheduler's: the noise (Ho et al. 2020, section 3.2) or v = alpha * noise - sigma * clean
(Salimans & Ho 2022, section 4), which is what generators made here predict.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from models.generators.diffusion import DiffusionGenerator
from models.generators.symmetry import Symmetry, mirrored


@dataclass(frozen=True)
class NoisyBatch:
    """One batch of the denoising task."""

    noised_BCHW: Tensor
    """Latents at their timesteps."""
    target_BCHW: Tensor
    """What the network is to answer."""
    times_B: Tensor
    """Timesteps, long."""
    conditions: Any
    """What it is told of them."""


class DenoisingObjective(nn.Module):
    """Mean squared error of what the denoiser answers; those of its weights that have gradients are trained."""

    def __init__(self, generator: DiffusionGenerator) -> None:
        super().__init__()
        self.denoiser = generator.denoiser
        self._generator = generator

    def forward(self, batch: NoisyBatch) -> dict[str, Tensor]:
        """Answers {"loss": scalar}; 1 is about what predicting nothing would score."""
        return {"loss": denoising_loss(self._generator, batch)}


def denoising_loss(generator: DiffusionGenerator, batch: NoisyBatch) -> Tensor:
    """Mean squared error over a batch, in float32."""
    predicted_BCHW = generator.predict(batch.noised_BCHW, batch.times_B, batch.conditions)
    return mse_loss(predicted_BCHW.float(), batch.target_BCHW)


def noisy_batch(
    generator: DiffusionGenerator,
    images_BCHW: Tensor,
    random: torch.Generator,
    device: torch.device,
    *,
    rows: slice = slice(None),
) -> NoisyBatch:
    """Noises uint8 images to timesteps spread evenly over the diffusion (one per B-th of it: less variance).

    Of these `rows` alone, as they are in the whole batch. Raises ValueError for a generator that predicts neither the
    noise nor v.
    """
    with torch.no_grad():
        clean_BCHW = generator.to_latent(images_BCHW[rows].to(device).float() / 127.5 - 1.0)
    count, steps = len(images_BCHW), generator.num_train_timesteps
    shares_B = (torch.arange(count) + torch.rand(count, generator=random)) / count
    times_B = (shares_B * steps).long().clamp(max=steps - 1)[rows].to(device)
    noise_BCHW = torch.randn((count, *clean_BCHW.shape[1:]), generator=random)[rows].to(clean_BCHW)
    noised_BCHW = generator.scheduler.add_noise(clean_BCHW, noise_BCHW, times_B)
    predicts = generator.scheduler.config.prediction_type
    if predicts == "v_prediction":
        target_BCHW = generator.scheduler.get_velocity(clean_BCHW, noise_BCHW, times_B)
    elif predicts == "epsilon":
        target_BCHW = noise_BCHW
    else:
        raise ValueError(f"the generator predicts {predicts}; only the noise (epsilon) and v are trained")
    conditions = generator.training_conditions(count, random)
    return NoisyBatch(noised_BCHW, target_BCHW, times_B, None if conditions is None else conditions[rows])


def batches_of(
    generator: DiffusionGenerator,
    images_BCHW: Tensor,
    batch_size: int,
    symmetry: Symmetry,
    device: torch.device,
    rows: slice = slice(None),
) -> Callable[[torch.Generator], NoisyBatch]:
    """`batches(random)`: draws images with replacement, mirrors and noises them; all randomness from `random`.

    Of every batch these `rows`.
    """

    def draw(random: torch.Generator) -> NoisyBatch:
        chosen_B = torch.randint(len(images_BCHW), (batch_size,), generator=random)
        mirrored_BCHW = mirrored(images_BCHW[chosen_B], symmetry, random)
        return noisy_batch(generator, mirrored_BCHW, random, device, rows=rows)

    return draw
