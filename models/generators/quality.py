"""How near samples are to real images, and whether they merely replay them.

Axes: B batch, C channel, H height, W width, D feature dimension. Images are float in [-1, 1], BCHW.
Distances between sets use `fixed_features`, whose network was never trained: see there what its numbers compare with.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.generators.fixed_features import FEATURE_SEED, fixed_features, kernel_distance
from models.generators.symmetry import Symmetry, mirror_images

COMPARED_SIDE = 32
"""Nearest neighbours are compared at this height; finer detail differs in any copy."""


def nearest_distances(images_BCHW: Tensor, others_BCHW: Tensor, symmetry: Symmetry) -> Tensor:
    """Per image, the root mean square distance (image range [-1, 1]) to the nearest of the others or their mirrors."""
    size = (COMPARED_SIDE, max(1, round(COMPARED_SIDE * images_BCHW.shape[3] / images_BCHW.shape[2])))

    def small(x_BCHW: Tensor) -> Tensor:
        return interpolate(x_BCHW, size=size, mode="area").flatten(1)

    others_BD = small(others_BCHW)
    nearest = [torch.cdist(small(m_BCHW), others_BD).amin(1) for m_BCHW in mirror_images(images_BCHW, symmetry)]
    return torch.stack(nearest).amin(0) / others_BD.shape[1] ** 0.5


@dataclass(frozen=True)
class QualityReport:
    """Numbers about samples; every one stands beside what real held-out images get."""

    kernel_distance: float
    """Samples to held-out images."""
    kernel_distance_of_real: float
    """Training images to held-out images: the best a generator can hope for."""
    nearest_median: float
    """Median distance of a sample to its nearest training image."""
    nearest_median_of_real: float
    """The same of held-out images: equal means no nearer to the training set than new real images are."""
    nearest_low: float
    """1st percentile of the samples' distances; near 0 is a copy."""
    nearest_low_of_real: float
    """The same of held-out images."""
    samples: int
    holdout: int
    features: str = f"random convolutions, seed {FEATURE_SEED}, never trained"

    def as_json(self) -> dict[str, float | int | str]:
        """Plain values, rounded."""
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(self).items()}


@torch.no_grad()
def assess(samples_BCHW: Tensor, train_BCHW: Tensor, holdout_BCHW: Tensor, symmetry: Symmetry) -> QualityReport:
    """Compares samples with training and held-out images, all in [-1, 1]; needs two or more of each."""
    features_BD = fixed_features(holdout_BCHW)
    samples_B = nearest_distances(samples_BCHW, train_BCHW, symmetry)
    holdout_B = nearest_distances(holdout_BCHW, train_BCHW, symmetry)
    return QualityReport(
        kernel_distance=kernel_distance(features_BD, fixed_features(samples_BCHW)),
        kernel_distance_of_real=kernel_distance(features_BD, fixed_features(train_BCHW)),
        nearest_median=float(samples_B.median()),
        nearest_median_of_real=float(holdout_B.median()),
        nearest_low=float(samples_B.quantile(0.01)),
        nearest_low_of_real=float(holdout_B.quantile(0.01)),
        samples=len(samples_BCHW),
        holdout=len(holdout_BCHW),
    )
