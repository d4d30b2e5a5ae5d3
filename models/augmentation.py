"""The one augmentation, for heads, students and baselines alike: image and target are warped by one grid.

A target is a class distribution per pixel; a pixel whose distribution sums to zero is ignored by every loss.
Axes: B batch, C channel, H height, W width. Images are float in [-1, 1].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch.nn import functional

from models.contracts import IGNORE
from models.examples import Example

GREY = 1e-3
"""Images whose channels differ by less have no colour; values are in [-1, 1]."""
SIDED = 10.0
"""Asymmetry from which left and right differ: they are alike in nearly all domains, and five images may lean by chance."""
UPRIGHT = 2.0
"""Asymmetry from which above and below differ: they do in most domains that have a ground."""


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges of the random warps and of the photometric changes; flips of None are measured on the examples."""

    horizontal_flip: bool | None = None
    """Mirror left and right; None = only when the labels' layout is the same on both sides."""
    vertical_flip: bool | None = None
    """Mirror top and bottom; None = only when the labels' layout is the same above and below."""
    rotation: float | None = None
    """Greatest rotation in degrees; None = 180 when both flips are on, else 15."""
    scale: float = 1.35
    """Greatest zoom in and out, as a factor."""
    aspect: float = 1.15
    """Greatest stretch of width against height, as a factor."""
    shift: float = 0.12
    """Greatest translation as a share of the side."""
    elastic: float = 0.03
    """Standard deviation of the coarse random displacement, as a share of the side."""
    brightness: float = 0.2
    """Greatest shift of the image's values (the range is 2 wide)."""
    contrast: float = 0.3
    """Greatest relative change of contrast."""
    gamma: float = 0.3
    """Greatest log2 exponent of the tone curve."""
    colour: float = 0.1
    """Greatest relative change of one colour channel against the others."""
    turned: float = 0.7
    """Share of the images whose hues are turned any way and whose saturation is halved to doubled: a few images cannot say
    which colours their classes may have (docs/decisions/0034). Grey images stay grey."""
    noise: float = 0.06
    """Greatest standard deviation of added noise."""
    blur: float = 0.3
    """Share of images that are softened with a 3x3 kernel."""


def measure_symmetry(examples: Sequence[Example], *, num_classes: int, grid: int = 4) -> tuple[bool, bool]:
    """(left-right, top-bottom): may images be mirrored that way without leaving the domain?

    The labels' coarse layout is compared with its mirror image. Where the mean difference over the examples is large
    against its own scatter (`SIDED`, `UPRIGHT`; docs/decisions/0036), the side matters. One example says nothing:
    left and right are alike, above and below are not.
    """
    if len(examples) < 2:
        return True, False
    layouts = np.stack([_layout(example.label_HW, num_classes, grid) for example in examples])
    return _asymmetry(layouts, axis=3) <= SIDED, _asymmetry(layouts, axis=2) <= UPRIGHT


def mirrors(across: bool, upside_down: bool) -> list[tuple[int, ...]]:
    """Axes of BCHW to flip, none first: every mirror image that means the same where these mirrors do."""
    columns: list[tuple[int, ...]] = [(), (3,)] if across else [()]
    rows: list[tuple[int, ...]] = [(), (2,)] if upside_down else [()]
    return [row + column for row, column in product(rows, columns)]


def resolve(config: AugmentConfig, examples: Sequence[Example], *, num_classes: int) -> AugmentConfig:
    """The config with every None replaced by what the examples say."""
    across, upside_down = measure_symmetry(examples, num_classes=num_classes)
    horizontal = across if config.horizontal_flip is None else config.horizontal_flip
    vertical = upside_down if config.vertical_flip is None else config.vertical_flip
    rotation = config.rotation if config.rotation is not None else (180.0 if horizontal and vertical else 15.0)
    return replace(config, horizontal_flip=horizontal, vertical_flip=vertical, rotation=rotation)


def augment(
    image_BCHW: torch.Tensor, target_BCHW: torch.Tensor, config: AugmentConfig, *, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """One random warp and tone change per image; the target follows the warp. Same shapes and ranges as given."""
    grid_BHW2 = _random_grid(image_BCHW.shape, config, generator).to(image_BCHW.device)
    both_BCHW = torch.cat([image_BCHW, target_BCHW], dim=1)
    both_BCHW = functional.grid_sample(both_BCHW, grid_BHW2, padding_mode="reflection", align_corners=False)
    image_BCHW, target_BCHW = both_BCHW.split([image_BCHW.shape[1], target_BCHW.shape[1]], dim=1)
    return _change_tones(image_BCHW, config, generator), target_BCHW.contiguous()


def _layout(label_HW: np.ndarray, num_classes: int, grid: int) -> np.ndarray:
    """Share of every class in the cells of a coarse grid: (num_classes, grid, grid)."""
    one_hot = torch.from_numpy(np.stack([label_HW == index for index in range(num_classes)])).float()
    valid = torch.from_numpy(label_HW != IGNORE).float()
    share = functional.adaptive_avg_pool2d(one_hot[None], grid) / functional.adaptive_avg_pool2d(
        valid[None, None], grid
    ).clamp_min(1e-3)
    layout: np.ndarray = share[0].numpy()
    return layout


def _asymmetry(layouts: np.ndarray, axis: int) -> float:
    """Pooled squared t statistic of the difference from the mirror image; 1 is expected of a symmetric domain."""
    difference = layouts - np.flip(layouts, axis=axis)
    signal = float((difference.mean(axis=0) ** 2).sum()) * len(layouts)
    scatter = float(difference.var(axis=0, ddof=1).sum())
    return signal / (scatter + 1e-9)


def _random_grid(shape: torch.Size, config: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    """Sampling positions BHW2 in [-1, 1]: affine plus a smooth random displacement."""
    batch, _, height, width = shape

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.rand(batch, generator=generator) * (high - low) + low

    def sign(enabled: bool | None) -> torch.Tensor:
        flips = torch.rand(batch, generator=generator) < 0.5
        return torch.where(flips & bool(enabled), -1.0, 1.0)

    angle = uniform(-1.0, 1.0) * math.radians(15.0 if config.rotation is None else config.rotation)
    zoom = torch.exp(uniform(-1.0, 1.0) * math.log(config.scale))
    stretch = torch.exp(uniform(-0.5, 0.5) * math.log(config.aspect))
    scale_x, scale_y = zoom * stretch * sign(config.horizontal_flip), zoom / stretch * sign(config.vertical_flip)
    ratio = height / width
    theta_B23 = torch.stack(
        [
            torch.stack([scale_x * angle.cos(), -scale_y * angle.sin() * ratio, uniform(-2.0, 2.0) * config.shift], 1),
            torch.stack([scale_x * angle.sin() / ratio, scale_y * angle.cos(), uniform(-2.0, 2.0) * config.shift], 1),
        ],
        dim=1,
    )
    grid_BHW2 = functional.affine_grid(theta_B23, [batch, 1, height, width], align_corners=False)
    if config.elastic > 0:
        coarse = torch.randn(batch, 2, 5, 5, generator=generator) * 2.0 * config.elastic
        smooth = functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        grid_BHW2 = grid_BHW2 + smooth.permute(0, 2, 3, 1)
    return grid_BHW2


def _change_tones(image_BCHW: torch.Tensor, config: AugmentConfig, generator: torch.Generator) -> torch.Tensor:
    batch, channels = image_BCHW.shape[:2]
    device = image_BCHW.device

    def uniform(*size: int) -> torch.Tensor:
        return (torch.rand(*size, generator=generator) * 2.0 - 1.0).to(device)

    # Grey images have no hue: what is turned there would be the tint that the channels' gains give them.
    coloured_B = (image_BCHW.amax(dim=1) - image_BCHW.amin(dim=1)).amax(dim=(1, 2)) > GREY
    gain = (1.0 + config.contrast * uniform(batch, 1, 1, 1)) * (1.0 + config.colour * uniform(batch, channels, 1, 1))
    mean = image_BCHW.mean(dim=(2, 3), keepdim=True)
    image_BCHW = (image_BCHW - mean) * gain + mean + config.brightness * uniform(batch, 1, 1, 1)
    image_BCHW = _turn_hues(image_BCHW, coloured_B, config.turned, generator)
    exponent = torch.exp2(config.gamma * uniform(batch, 1, 1, 1))
    image_BCHW = ((image_BCHW.clamp(-1.0, 1.0) + 1.0) / 2.0).pow(exponent) * 2.0 - 1.0
    soften_B = (torch.rand(batch, generator=generator) < config.blur).to(device)
    softened_BCHW = image_BCHW[soften_B]
    padded_BCHW = functional.pad(softened_BCHW, (1, 1, 1, 1), mode="replicate")
    image_BCHW[soften_B] = 0.5 * softened_BCHW + 0.5 * functional.avg_pool2d(padded_BCHW, 3, stride=1)
    noise = torch.randn(image_BCHW.shape, generator=generator).to(device)
    strength = config.noise * torch.rand(batch, 1, 1, 1, generator=generator).to(device)
    return (image_BCHW + strength * noise).clamp(-1.0, 1.0)


def _turn_hues(
    image_BCHW: torch.Tensor, coloured_B: torch.Tensor, share: float, generator: torch.Generator
) -> torch.Tensor:
    """A share of the coloured images turned about the grey axis by any angle, their saturation halved to doubled."""
    batch = len(image_BCHW)
    angle_B, stretch_B, chance_B = torch.rand(3, batch, generator=generator).to(image_BCHW.device)
    turned_B = (chance_B < share) & coloured_B
    angle_B111 = (torch.where(turned_B, angle_B * 2.0 - 1.0, 0.0) * math.pi)[:, None, None, None]
    saturation_B111 = torch.exp2(torch.where(turned_B, stretch_B * 2.0 - 1.0, 0.0))[:, None, None, None]
    grey_B1HW = image_BCHW.mean(dim=1, keepdim=True)
    chroma_BCHW = image_BCHW - grey_B1HW
    # The grey axis times the chroma, as vectors: what a turn by 90 degrees makes of it.
    across_BCHW = (chroma_BCHW.roll(1, dims=1) - chroma_BCHW.roll(-1, dims=1)) / math.sqrt(3.0)
    turned_BCHW = chroma_BCHW * angle_B111.cos() + across_BCHW * angle_B111.sin()
    return grey_B1HW + turned_BCHW * saturation_B111
