"""Labels for images nobody annotated: sampled ones (labels ride along) and real ones (noised, one pass).

Axes: B batch, C channel (N classes, then contours of things), H, W, K members.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.contracts import ClassSpec, Generator
from models.examples import to_float_images, to_uint8_images
from models.heads.fusion import FusionHead
from models.heads.predict import member_probabilities
from models.instances import decode_instances, fold_labels
from models.precision import mixed_precision
from models.selection import image_score, js_divergence


@dataclass(frozen=True)
class LabelledBatch:
    """Images with everything the head says about them."""

    images_BHWC: np.ndarray
    """uint8 RGB."""
    probabilities_BCHW: np.ndarray
    """float32 soft labels: the members' mean; channels sum to one."""
    labels_BHW: np.ndarray
    """uint8 class index."""
    instances_BHW: np.ndarray | None
    """uint16 instance ids, 0 = none; None when no class is a thing."""
    uncertainty_B: np.ndarray
    """float64 image score: mean of the most uncertain tenth of the pixels, nats."""
    uncertainty_BHW: np.ndarray
    """float16 Jensen-Shannon divergence of the members per pixel, nats."""


@torch.inference_mode()
def label_synthesized(
    generator: Generator,
    head: FusionHead,
    seeds: Sequence[int],
    *,
    num_steps: int = 25,
    views: int = 1,
) -> LabelledBatch:
    """Sample one image per seed and label it from the features of the sampling steps themselves.

    With `views` > 1 the finished images are encoded `views - 1` times more and all answers are averaged.
    """
    image_BCHW, features = generator.sample(seeds, num_steps=num_steps, tap_timestep=head.config.tap_timestep)
    images_BHWC = to_uint8_images(image_BCHW)
    with mixed_precision(image_BCHW.device):
        logits_KBCHW = head(features, image_BCHW)
    members = [logits_KBCHW.float().softmax(dim=2)]
    if views > 1:
        seen_BCHW = to_float_images(images_BHWC).to(image_BCHW.device)
        members.append(member_probabilities(generator, head, seen_BCHW, seeds=seeds, views=views - 1))
    return _batch(images_BHWC, torch.cat(members), head.config.classes)


@torch.inference_mode()
def label_encoded(
    generator: Generator,
    head: FusionHead,
    images_BHWC: np.ndarray,
    *,
    seeds: Sequence[int],
    views: int = 4,
) -> LabelledBatch:
    """Label real images (uint8 RGB) from the features of one denoising pass per view, answers averaged."""
    image_BCHW = to_float_images(images_BHWC).to(generator.device)
    members_KBCHW = member_probabilities(generator, head, image_BCHW, seeds=seeds, views=views)
    return _batch(np.asarray(images_BHWC), members_KBCHW, head.config.classes)


def _batch(images_BHWC: np.ndarray, members_KBCHW: Tensor, classes: Sequence[ClassSpec]) -> LabelledBatch:
    members = members_KBCHW.cpu().numpy()
    probabilities_BCHW = members.mean(axis=0)
    divergence_BHW = js_divergence(members)
    instances_BHW = None
    if any(spec.thing for spec in classes):
        instances_BHW = np.stack([decode_instances(one_CHW, classes) for one_CHW in probabilities_BCHW])
    return LabelledBatch(
        images_BHWC=images_BHWC,
        probabilities_BCHW=probabilities_BCHW,
        labels_BHW=fold_labels(probabilities_BCHW.argmax(axis=1).astype(np.uint8), classes),
        instances_BHW=instances_BHW,
        uncertainty_B=image_score(divergence_BHW),
        uncertainty_BHW=divergence_BHW.astype(np.float16),
    )
