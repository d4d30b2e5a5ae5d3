"""A fusion head on its generator or encoder as a labeller: answers averaged over members, noises and mirror images.

Axes: B batch, C channel, H, W, K members.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from models.augmentation import mirrors
from models.contracts import ClassSpec, FeatureSource, Generator, NotOffered
from models.examples import to_float_images, to_uint8_images
from models.heads.fusion import FusionHead
from models.precision import mixed_precision


class FusionLabeller:
    """Implements `models.labelling.Labeller`."""

    kind = "fusion"

    def __init__(self, generator: FeatureSource, head: FusionHead, *, views: int = 4) -> None:
        self.generator = generator
        self.head: FusionHead = head.eval()
        self.title = f"Head on the {'generator' if generator.can_sample else 'encoder'}"
        self._flips = mirrors(head.config.mirror, head.config.upside_down)
        # Where there is no noise, the image and its mirror images are all the views there are.
        distinct = views if generator.num_train_timesteps > 1 else len(self._flips)
        self.views = max(1, min(views, distinct))

    @classmethod
    def load(cls, directory: Path, generator: FeatureSource, device: torch.device | str = "cpu") -> Self:
        """Reads what `save` wrote."""
        return cls(generator, FusionHead.load(directory, device))

    def save(self, directory: Path) -> None:
        """Writes the head; the generator is stored on its own."""
        self.head.save(directory)

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        """What is predicted."""
        return self.head.config.classes

    def members(self, images_BHWC: np.ndarray, *, seeds: Sequence[int]) -> Tensor:
        """Distributions of real images, KBCHW with K = members x views.

        Every view noises the images anew, at the next of the head's timesteps, and sees them in the next of the mirrors
        that mean the same to the head.
        """
        image_BCHW = to_float_images(images_BHWC).to(self.generator.device)
        config = self.head.config
        timesteps = (config.tap_timestep, *(t for t in config.tap_timesteps if t != config.tap_timestep))
        answers = []
        for view in range(self.views):
            axes = self._flips[view % len(self._flips)]
            seen_BCHW = image_BCHW.flip(axes)
            view_seeds = [seed * 1009 + view for seed in seeds]
            timestep = timesteps[view % len(timesteps)]
            features = self.generator.encode(seen_BCHW, tap_timestep=timestep, seeds=view_seeds)
            answer_KBCHW = self._distributions(features, seen_BCHW)
            answers.append(answer_KBCHW.flip([axis + 1 for axis in axes]))
        return torch.cat(answers)

    def sample(self, seeds: Sequence[int], *, num_steps: int) -> tuple[np.ndarray, Tensor]:
        """Labels ride along: the features are those of the sampling step nearest the head's timestep."""
        if not isinstance(self.generator, Generator):
            raise NotOffered(f"The family {self.generator.family} draws no images; label real ones: the pool encoded.")
        timestep = self.head.config.tap_timestep
        image_BCHW, features = self.generator.sample(seeds, num_steps=num_steps, tap_timestep=timestep)
        return to_uint8_images(image_BCHW), self._distributions(features, image_BCHW)

    def _distributions(self, features: dict[str, Tensor], image_BCHW: Tensor) -> Tensor:
        with mixed_precision(image_BCHW.device):
            logits_KBCHW = self.head(features, image_BCHW)
        return torch.as_tensor(logits_KBCHW).float().softmax(dim=2)
