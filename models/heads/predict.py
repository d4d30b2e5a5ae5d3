"""A head on its generator as a predictor of real images, averaged over members, noises and mirror images.

Axes: B batch, C channel, H, W, K members, V views.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from models.contracts import Generator
from models.examples import to_float_images
from models.heads.fusion import FusionHead
from models.metrics.evaluation import Prediction
from models.precision import mixed_precision
from models.students.predict import as_prediction


def member_probabilities(
    generator: Generator,
    head: FusionHead,
    image_BCHW: Tensor,
    *,
    seeds: Sequence[int],
    views: int,
) -> Tensor:
    """Member distributions of real images, KBCHW with K = members x views.

    Every view noises the images anew, at the next of the head's timesteps; every second one is seen in the mirror where
    the head may.
    """
    answers = []
    timesteps = (head.config.tap_timestep, *(t for t in head.config.tap_timesteps if t != head.config.tap_timestep))
    for view in range(max(1, views)):
        flipped = head.config.mirror and view % 2 == 1
        seen_BCHW = image_BCHW.flip(-1) if flipped else image_BCHW
        view_seeds = [seed * 1009 + view for seed in seeds]
        features = generator.encode(seen_BCHW, tap_timestep=timesteps[view % len(timesteps)], seeds=view_seeds)
        with mixed_precision(image_BCHW.device):
            logits_KBCHW = head(features, seen_BCHW)
        probabilities_KBCHW = logits_KBCHW.float().softmax(dim=2)
        answers.append(probabilities_KBCHW.flip(-1) if flipped else probabilities_KBCHW)
    return torch.cat(answers)


class HeadPredictor:
    """Labels real images with a head, for reports."""

    def __init__(self, generator: Generator, head: FusionHead, *, views: int = 4) -> None:
        self.generator, self.head, self.views = generator, head.eval(), views

    @torch.inference_mode()
    def predict(self, images_BHWC: np.ndarray) -> Prediction:
        """uint8 RGB images -> mean channel probabilities and instances."""
        image_BCHW = to_float_images(images_BHWC).to(self.generator.device)
        members_KBCHW = member_probabilities(
            self.generator, self.head, image_BCHW, seeds=range(len(image_BCHW)), views=self.views
        )
        return as_prediction(members_KBCHW.mean(dim=0).cpu().numpy(), self.head.config.classes)
