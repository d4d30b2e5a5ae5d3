"""What fitting a head takes at the size of the published networks, where DDPM-seg's needs its hundreds of gigabytes.

The maps have the shapes of those that DDPM-seg reads of ADM at 256x256 (method.md 4.3: 1024@32, 512@32, 512@32, 512@64,
256@128) and random values, for memory does not depend on them. The network itself, which both ways hold, is left out.
Axes: B batch, C channel, H, W.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.contracts import ClassSpec, Features
from models.examples import Example
from models.heads.fusion_training import FusionTrainConfig, fit_fusion, views_per_step
from models.peak_memory import PeakMemory

SIDE = 256
MAPS = {"up5": (1024, 8), "up6": (512, 8), "up7": (512, 8), "up8": (512, 4), "up12": (256, 2)}
"""Decoder block -> channels, stride."""
NUM_CLASSES = 34
"""Of the faces that DatasetGAN and DDPM-seg annotated."""


class RandomMaps:
    """A `FeatureSource` of the published shapes."""

    family = "random"
    can_sample = False
    can_encode = True
    image_size = (3, SIDE, SIDE)
    tap_channels = {name: channels for name, (channels, _) in MAPS.items()}
    tap_strides = {name: stride for name, (_, stride) in MAPS.items()}
    tap_timestep = 150
    num_train_timesteps = 1000
    num_parameters = 0
    device = torch.device("cpu")

    def encode(self, images_BCHW: Tensor, *, tap_timestep: int | None = None, seeds: Sequence[int]) -> Features:
        """Maps of noise."""
        del tap_timestep, seeds
        return {
            name: torch.randn(len(images_BCHW), channels, SIDE // stride, SIDE // stride)
            for name, (channels, stride) in MAPS.items()
        }

    def save(self, directory: Any) -> None:
        """There is nothing to keep."""
        raise NotImplementedError(f"{directory}: random maps are not stored")


def peak_at_paper_scale(num_images: int, steps: int) -> int:
    """Bytes of our fit's peak above what this process held before."""
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    shape = (SIDE, SIDE)
    examples = [
        Example(
            draw.integers(256, size=(*shape, 3), dtype=np.uint8),
            draw.integers(NUM_CLASSES, size=shape, dtype=np.uint8),
            None,
        )
        for _ in range(num_images)
    ]
    classes = [ClassSpec(f"class {index}") for index in range(NUM_CLASSES)]
    config = FusionTrainConfig(steps=steps, batch_size=views_per_step(*shape), validate_from=num_images + 1)
    peak = PeakMemory(torch.device("cpu"))
    before = peak.num_bytes()
    fit_fusion(RandomMaps(), examples, classes, config, device=torch.device("cpu"))
    return peak.num_bytes() - before
