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
COPY = 1 / 3
"""A sample at less than this share of the distance to the second nearest training image copies the nearest."""
COMPARED_TRAIN = 4096
"""Training images whose distance to the held-out ones is taken; more would not change it and fill the memory."""


def nearest_distances(images_BCHW: Tensor, others_BCHW: Tensor, symmetry: Symmetry) -> Tensor:
    """Per image, the root mean square distance (image range [-1, 1]) to the nearest of the others or their mirrors."""
    return nearest_two(images_BCHW, others_BCHW, symmetry)[:, 0]


def nearest_two(images_BCHW: Tensor, others_BCHW: Tensor, symmetry: Symmetry) -> Tensor:
    """The same to the nearest two of the others, B2, the nearer first; computed on the images' device.

    An image and its own mirrors count as one; where there is one other only, the second is infinitely far.
    """
    size = (COMPARED_SIDE, max(1, round(COMPARED_SIDE * images_BCHW.shape[3] / images_BCHW.shape[2])))

    def small(x_BCHW: Tensor) -> Tensor:
        return interpolate(x_BCHW, size=size, mode="area")

    device = images_BCHW.device
    images_BD = torch.cat([small(chunk_BCHW).flatten(1) for chunk_BCHW in _float_chunks(images_BCHW, device)])
    nearest_B2 = images_BD.new_full((len(images_BD), 2), torch.inf)
    for chunk_BCHW in _float_chunks(others_BCHW, device):
        mirrors = mirror_images(small(chunk_BCHW), symmetry)
        each_BN = torch.stack([torch.cdist(images_BD, mirror_BCHW.flatten(1)) for mirror_BCHW in mirrors]).amin(0)
        nearest_B2 = torch.cat([nearest_B2, each_BN], dim=1).topk(2, largest=False).values
    return nearest_B2 / images_BD.shape[1] ** 0.5


def copied_share(nearest_B2: Tensor) -> float:
    """Share of images that lie at less than COPY of the distance to one other image than to all the rest.

    Distances alone do not tell: a blurred image is near to everything, an image of a varied pool far from everything.
    A copy is much nearer to its original than to anything else (Yoon et al. 2023, "Diffusion Probabilistic Models
    Generalize when They Fail to Memorize"; Gu et al. 2023, "On Memorization in Diffusion Models", take one third too).
    """
    return float((nearest_B2[:, 0] < COPY * nearest_B2[:, 1]).float().mean())


def features_of(images_BCHW: Tensor) -> Tensor:
    """Fixed features BD of all images, on their device."""
    chunks = _float_chunks(images_BCHW, images_BCHW.device)
    return torch.cat([fixed_features(chunk_BCHW) for chunk_BCHW in chunks])


def _float_chunks(images_BCHW: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Images as floats in [-1, 1], a chunk at a time; uint8 is taken as 0 to 255, floats as they are."""
    for chunk_BCHW in images_BCHW.split(CHUNK_IMAGES):
        moved_BCHW = chunk_BCHW.to(device)
        yield moved_BCHW.float() / 127.5 - 1 if moved_BCHW.dtype == torch.uint8 else moved_BCHW


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
    copied_share: float
    """Share of samples that are much nearer to one training image than to any other: replayed."""
    copied_share_of_real: float
    """The same of held-out images: not 0 where the pool holds near duplicates."""
    samples: int
    holdout: int
    features: str = f"random convolutions, seed {FEATURE_SEED}, never trained"

    def as_json(self) -> dict[str, float | int | str]:
        """Plain values, rounded."""
        return {k: round(v, 5) if isinstance(v, float) else v for k, v in asdict(self).items()}


@torch.no_grad()
def assess(samples_BCHW: Tensor, train_BCHW: Tensor, holdout_BCHW: Tensor, symmetry: Symmetry) -> QualityReport:
    """Compares samples with training and held-out images; needs two or more of each. Pools are best left as uint8."""
    holdout_BCHW = holdout_BCHW.to(samples_BCHW.device)
    features_BD = features_of(holdout_BCHW)
    samples_B2 = nearest_two(samples_BCHW, train_BCHW, symmetry)
    holdout_B2 = nearest_two(holdout_BCHW, train_BCHW, symmetry)
    compared_BCHW = train_BCHW[:COMPARED_TRAIN].to(samples_BCHW.device)
    return QualityReport(
        kernel_distance=kernel_distance(features_BD, features_of(samples_BCHW)),
        kernel_distance_of_real=kernel_distance(features_BD, features_of(compared_BCHW)),
        nearest_median=float(samples_B2[:, 0].median()),
        nearest_median_of_real=float(holdout_B2[:, 0].median()),
        nearest_low=float(samples_B2[:, 0].quantile(0.01)),
        nearest_low_of_real=float(holdout_B2[:, 0].quantile(0.01)),
        copied_share=copied_share(samples_B2),
        copied_share_of_real=copied_share(holdout_B2),
        samples=len(samples_BCHW),
        holdout=len(holdout_BCHW),
    )
