"""Mirror images that are as good as the image itself: more data for nothing, where it is true.

Axes: B batch, C channel, H height, W width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.generators.fixed_features import fixed_features, kernel_distance

EXAMINED = 512
SPLITS = 16
TOLERATED = 2.0
"""Standard deviations by which mirrored images may look less like the pool than the pool itself does."""


@dataclass(frozen=True)
class Symmetry:
    """Which mirror images of a pool's image could as well have been in the pool."""

    horizontal: bool = True
    """Left and right may be swapped."""
    vertical: bool = False
    """Up and down may be swapped: textures, microscopy, aerial images."""
    diagonal: bool = False
    """Rows and columns may be swapped (with the two above: every quarter turn); square images only."""


def mirrored(images_BCHW: Tensor, symmetry: Symmetry, random: torch.Generator) -> Tensor:
    """Each image as a random one of its allowed mirror images."""

    def coin() -> Tensor:
        return (torch.rand(len(images_BCHW), generator=random) < 0.5)[:, None, None, None].to(images_BCHW.device)

    if symmetry.horizontal:
        images_BCHW = torch.where(coin(), images_BCHW.flip(3), images_BCHW)
    if symmetry.vertical:
        images_BCHW = torch.where(coin(), images_BCHW.flip(2), images_BCHW)
    if symmetry.diagonal:
        images_BCHW = torch.where(coin(), images_BCHW.transpose(2, 3), images_BCHW)
    return images_BCHW


def mirror_images(images_BCHW: Tensor, symmetry: Symmetry) -> list[Tensor]:
    """The images and each of their allowed mirror images: 1, 2, 4 or 8 tensors BCHW."""
    found = [images_BCHW]
    if symmetry.horizontal:
        found += [x_BCHW.flip(3) for x_BCHW in found]
    if symmetry.vertical:
        found += [x_BCHW.flip(2) for x_BCHW in found]
    if symmetry.diagonal:
        found += [x_BCHW.transpose(2, 3) for x_BCHW in found]
    return found


@torch.no_grad()
def find_symmetry(images_BCHW: Tensor, *, seed: int = 0) -> Symmetry:
    """The symmetries that uint8 images of a pool show.

    A mirror is accepted when one half of the pool, mirrored, is no farther from the other half (kernel distance on
    fixed features, over random splits) than it is unmirrored. Under 32 images nothing is assumed.
    """
    if len(images_BCHW) < 32:
        return Symmetry(horizontal=False)
    random = torch.Generator().manual_seed(seed)
    chosen_BCHW = images_BCHW[torch.randperm(len(images_BCHW), generator=random)[:EXAMINED]].float() / 127.5 - 1
    plain_BD = fixed_features(chosen_BCHW)
    splits = [torch.randperm(len(plain_BD), generator=random) for _ in range(SPLITS)]
    half = len(plain_BD) // 2

    def distances(other_BD: Tensor) -> Tensor:
        return torch.tensor([kernel_distance(plain_BD[p[:half]], other_BD[p[half:]]) for p in splits])

    usual = distances(plain_BD)
    limit = float(usual.mean() + TOLERATED * usual.std())

    def holds(mirror_BCHW: Tensor) -> bool:
        return float(distances(fixed_features(mirror_BCHW)).mean()) <= limit

    square = chosen_BCHW.shape[2] == chosen_BCHW.shape[3]
    return Symmetry(
        horizontal=holds(chosen_BCHW.flip(3)),
        vertical=holds(chosen_BCHW.flip(2)),
        diagonal=square and holds(chosen_BCHW.transpose(2, 3)),
    )
