"""The denoising objective and its batches: what `models.training.fit` needs to train a diffusion generator.

Axes: B batch, C channel, H height, W width. Pool images are uint8 BCHW; latents are float in [-1, 1], BCHW.
v-prediction (Salimans & Ho 2022, section 4): the network predicts v = alpha * noise - sigma * clean.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from models.generators.symmetry import Symmetry, mirrored
from models.generators.unet_diffusion import UNetDiffusionGenerator


@dataclass(frozen=True)
class NoisyBatch:
    """One batch of the denoising task."""

    noised_BCHW: Tensor
    """Latents at their timesteps."""
    target_BCHW: Tensor
    """v of the same latents."""
    times_B: Tensor
    """Timesteps, long."""


class DenoisingObjective(nn.Module):
    """Mean squared error of the predicted v; owns the denoiser that is trained."""

    def __init__(self, generator: UNetDiffusionGenerator) -> None:
        super().__init__()
        self.unet = generator.unet.requires_grad_(True)

    def forward(self, batch: NoisyBatch) -> dict[str, Tensor]:
        """Answers {"loss": scalar}; 1 is what predicting nothing would score."""
        predicted_BCHW = self.unet(batch.noised_BCHW, batch.times_B).sample
        return {"loss": mse_loss(predicted_BCHW.float(), batch.target_BCHW)}


def noisy_batch(
    generator: UNetDiffusionGenerator, images_BCHW: Tensor, random: torch.Generator, device: torch.device
) -> NoisyBatch:
    """Noises uint8 images to timesteps spread evenly over the diffusion (one per B-th of it: less variance)."""
    clean_BCHW = generator.to_latent(images_BCHW.to(device).float() / 127.5 - 1.0)
    count, steps = len(images_BCHW), generator.num_train_timesteps
    shares_B = (torch.arange(count) + torch.rand(count, generator=random)) / count
    times_B = (shares_B * steps).long().clamp(max=steps - 1).to(device)
    noise_BCHW = generator.to_latent(torch.randn(images_BCHW.shape, generator=random).to(device))
    noised_BCHW = generator.scheduler.add_noise(clean_BCHW, noise_BCHW, times_B)
    return NoisyBatch(noised_BCHW, generator.scheduler.get_velocity(clean_BCHW, noise_BCHW, times_B), times_B)


def batches_of(
    generator: UNetDiffusionGenerator,
    images_BCHW: Tensor,
    batch_size: int,
    symmetry: Symmetry,
    device: torch.device,
) -> Callable[[torch.Generator], NoisyBatch]:
    """`batches(random)`: draws images with replacement, mirrors and noises them; all randomness from `random`."""

    def draw(random: torch.Generator) -> NoisyBatch:
        chosen_B = torch.randint(len(images_BCHW), (batch_size,), generator=random)
        mirrored_BCHW = mirrored(images_BCHW[chosen_B], symmetry, random)
        return noisy_batch(generator, mirrored_BCHW, random, device)

    return draw
