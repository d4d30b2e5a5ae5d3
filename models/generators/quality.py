"""How near samples are to real images, and whether they merely replay them.

Axes: B batch, C channel, H height, W width, D feature dimension. Images are BCHW, float in [-1, 1] or uint8.
Distances between sets use `fixed_features`, whose network was never trained: see there what its numbers compare with.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.generators.fixed_features import FEATURE_SEED, fixed_features, kernel_distance
from models.generators.symmetry import Symmetry, mirror_images

COMPARED_SIDE = 32
"""Nearest neighbours are compared at this height; finer detail differs in any copy."""
CHUNK_IMAGES = 256
"""So many images of a pool are floats at a time; as bytes they take a quarter of the memory."""


def nearest_distances(images_BCHW: Tensor, others_BCHW: Tensor, symmetry: Symmetry) -> Tensor:
    """Per image, the root mean square distance (image range [-1, 1]) to the nearest of the others or their mirrors."""
    size = (COMPARED_SIDE, max(1, round(COMPARED_SIDE * images_BCHW.shape[3] / images_BCHW.shape[2])))

    def small(x_BCHW: Tensor) -> Tensor:
        return interpolate(x_BCHW, size=size, mode="area")

    images_BD = torch.cat([small(chunk_BCHW).flatten(1) for chunk_BCHW in _float_chunks(images_BCHW)])
    nearest_B = images_BD.new_full((len(images_BD),), torch.inf)
    for chunk_BCHW in _float_chunks(others_BCHW):
        for mirror_BCHW in mirror_images(small(chunk_BCHW), symmetry):
            nearest_B = torch.minimum(nearest_B, torch.cdist(images_BD, mirror_BCHW.flatten(1)).amin(1))
    return nearest_B / images_BD.shape[1] ** 0.5


def _features(images_BCHW: Tensor) -> Tensor:
    """Fixed features BD of all images."""
    return torch.cat([fixed_features(chunk_BCHW) for chunk_BCHW in _float_chunks(images_BCHW)])


def _float_chunks(images_BCHW: Tensor) -> Iterator[Tensor]:
    """Images as floats in [-1, 1], a chunk at a time; uint8 is taken as 0 to 255, floats as they are."""
    for chunk_BCHW in images_BCHW.split(CHUNK_IMAGES):
        yield chunk_BCHW.float() / 127.5 - 1 if chunk_BCHW.dtype == torch.uint8 else chunk_BCHW


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
    """Compares samples with training and held-out images; needs two or more of each. Pools are best left as uint8."""
    features_BD = _features(holdout_BCHW)
    samples_B = nearest_distances(samples_BCHW, train_BCHW, symmetry)
    holdout_B = nearest_distances(holdout_BCHW, train_BCHW, symmetry)
    return QualityReport(
        kernel_distance=kernel_distance(features_BD, _features(samples_BCHW)),
        kernel_distance_of_real=kernel_distance(features_BD, _features(train_BCHW)),
        nearest_median=float(samples_B.median()),
        nearest_median_of_real=float(holdout_B.median()),
        nearest_low=float(samples_B.quantile(0.01)),
        nearest_low_of_real=float(holdout_B.quantile(0.01)),
        samples=len(samples_BCHW),
        holdout=len(holdout_BCHW),
    )
