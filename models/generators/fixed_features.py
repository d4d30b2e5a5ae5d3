"""Features of a fixed network, and the distance between two sets of images on them.

Axes: B batch, C channel, H height, W width, D feature dimension. Images are float in [-1, 1], BCHW.
The network is *fixed and random*: convolutions with seeded weights that were never trained, so every number here
compares only with numbers made by the same version of this file, never with published FID or KID.
Kernel distance: Binkowski et al. 2018, "Demystifying MMD GANs", section 4 (unbiased, cubic polynomial kernel).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, leaky_relu

FEATURE_SEED = 20230
FEATURE_WIDTHS = (32, 64, 96, 128)
POOLED_SIDE = 2
"""Features are averaged over a POOLED_SIDE x POOLED_SIDE grid: what there is, and roughly where."""
KERNEL_SIDE = 1024
"""Kernel values are computed for this many images against as many at a time, 8 MB of them."""


class FixedFeatures(nn.Module):
    """Seeded random convolutions; `forward(images_BCHW) -> features_BD`, means of every layer on a coarse grid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(FEATURE_SEED)
        self.convolutions = nn.ModuleList()
        for width in FEATURE_WIDTHS:
            convolution = nn.Conv2d(channels, width, 3, stride=2, padding=1)
            scale = (2.0 / (channels * 9)) ** 0.5
            convolution.weight.data = torch.randn(convolution.weight.shape, generator=random) * scale
            convolution.bias.data = torch.randn(width, generator=random) * 0.1  # type: ignore[union-attr]
            self.convolutions.append(convolution)
            channels = width
        self.requires_grad_(False)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        x_BCHW, pooled = images_BCHW, []
        for convolution in self.convolutions:
            x_BCHW = leaky_relu(convolution(x_BCHW), 0.2)
            pooled.append(adaptive_avg_pool2d(x_BCHW, POOLED_SIDE).flatten(1))
        return torch.cat(pooled, dim=1)


def fixed_features(images_BCHW: Tensor, *, batch_size: int = 256) -> Tensor:
    """Features BD of images in [-1, 1], on the images' device."""
    network = FixedFeatures(images_BCHW.shape[1]).to(images_BCHW.device)
    return torch.cat([network(part_BCHW) for part_BCHW in images_BCHW.split(batch_size)])


def kernel_distance(real_BD: Tensor, fake_BD: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of two feature sets, each of two or more; 0 = same law, may dip below.

    Features are first scaled by the real set's mean and spread per dimension (dimensions that hardly vary do not count
    more for it).
    """
    mean_D, spread_D = real_BD.mean(0), real_BD.std(0)
    spread_D = spread_D.clamp(min=max(1e-6, 0.1 * float(spread_D.median())))
    real_BD, fake_BD = (real_BD - mean_D) / spread_D, (fake_BD - mean_D) / spread_D

    def among(a_BD: Tensor) -> Tensor:
        count = len(a_BD)
        squares = (_kernel_of(part_BD.double().square().mean(1)).sum() for part_BD in a_BD.split(KERNEL_SIDE))
        return (_kernel_sum(a_BD, a_BD) - sum(squares)) / (count * (count - 1))

    across = _kernel_sum(real_BD, fake_BD) / (len(real_BD) * len(fake_BD))
    return float(among(real_BD) + among(fake_BD) - 2 * across)


def _kernel_of(products: Tensor) -> Tensor:
    """The kernel's values from mean products of features."""
    return (products + 1) ** 3


def _kernel_sum(a_BD: Tensor, b_BD: Tensor) -> Tensor:
    """The kernel summed over all pairs, square by square of the matrix: the whole of it need not be in memory."""
    total = a_BD.new_zeros((), dtype=torch.float64)
    for rows_BD in a_BD.split(KERNEL_SIDE):
        for columns_BD in b_BD.split(KERNEL_SIDE):
            total += _kernel_of(rows_BD.double() @ columns_BD.double().T / a_BD.shape[1]).sum()
    return total
