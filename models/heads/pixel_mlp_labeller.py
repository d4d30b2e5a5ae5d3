"""The pixel classifiers on their generator as a labeller. Axes: B batch, C channel, H, W, K members.

Where DDPM-seg and DatasetDDPM take each pixel's most frequent vote, the members' mean distribution is kept here: its
most probable class is the hard label, and soft labels and the uncertainty need it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from models.contracts import ClassSpec, FeatureSource, Generator, NotOffered
from models.examples import to_float_images, to_uint8_images
from models.heads.pixel_mlp import PixelMLPs, encode_at_all
from models.precision import mixed_precision


class PixelMLPLabeller:
    """Implements `models.labelling.Labeller`."""

    kind = "pixel_mlp"

    def __init__(self, generator: FeatureSource, networks: PixelMLPs) -> None:
        self.generator = generator
        self.title = f"Pixel classifiers on the {'generator' if generator.can_sample else 'encoder'}"
        self.networks: PixelMLPs = networks.eval()

    @classmethod
    def load(cls, directory: Path, generator: FeatureSource, device: torch.device | str = "cpu") -> Self:
        """Reads what `save` wrote."""
        return cls(generator, PixelMLPs.load(directory, device))

    def save(self, directory: Path) -> None:
        """Writes the networks; the generator is stored on its own."""
        self.networks.save(directory)

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        """What is predicted."""
        return self.networks.config.classes

    def members(self, images_BHWC: np.ndarray, *, seeds: Sequence[int]) -> Tensor:
        """Distributions of real images, KBCHW, from one pass of the generator per timestep."""
        image_BCHW = to_float_images(images_BHWC).to(self.generator.device)
        features = encode_at_all(self.generator, image_BCHW, self.networks.config.tap_timesteps, seeds=seeds)
        with mixed_precision(image_BCHW.device):
            logits_KBCHW = self.networks(features, (image_BCHW.shape[2], image_BCHW.shape[3]))
        return torch.as_tensor(logits_KBCHW).float().softmax(dim=2)

    def sample(self, seeds: Sequence[int], *, num_steps: int) -> tuple[np.ndarray, Tensor]:
        """Finished images are noised again and read like real ones, as DatasetDDPM does: a pass more per timestep."""
        if not isinstance(self.generator, Generator):
            raise NotOffered(f"The family {self.generator.family} draws no images; label real ones: the pool encoded.")
        image_BCHW, _ = self.generator.sample(seeds, num_steps=num_steps)
        images_BHWC = to_uint8_images(image_BCHW)
        return images_BHWC, self.members(images_BHWC, seeds=seeds)
