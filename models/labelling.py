"""Labels for images nobody annotated: sampled ones and real ones, by whatever labels.

A labeller answers with the distributions of its members: their mean is the soft label, their disagreement the uncertainty.
Axes: B batch, C channel (N classes, then contours of things), H, W, K members.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from models.contracts import ClassSpec
from models.instances import decode_instances, fold_labels
from models.metrics.evaluation import Prediction
from models.selection import image_score, js_divergence
from models.students.predict import as_prediction


class Labeller(Protocol):
    """Labels images after a fit on a few annotated ones: a head on a generator's features, or networks of their own.

    The same seed gives the same answer in a batch of any size, up to rounding.
    """

    kind: str
    """Name in `models.heads.kinds`; `save` writes it, so that the directory can be read back by its kind."""
    title: str
    """What a report calls it."""

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        """What is predicted."""

    def members(self, images_BHWC: np.ndarray, *, seeds: Sequence[int]) -> Tensor:
        """Distributions KBCHW of real images (uint8 RGB), one seed per image; K counts members and views."""

    def sample(self, seeds: Sequence[int], *, num_steps: int) -> tuple[np.ndarray, Tensor]:
        """One sampled image per seed, uint8 BHWC, and its distributions KBCHW; raises NotOffered where none is drawn."""

    def save(self, directory: Path) -> None:
        """Write `head.json`, with its kind, and what it has learned."""


@dataclass(frozen=True)
class FittedHead:
    """A labeller ready to work, and what is known of its making."""

    labeller: Labeller
    card: dict[str, Any]
    """JSON-ready: kind, members, examples, timesteps, cross-validation table, curves, steps, seconds."""


@dataclass(frozen=True)
class LabelledBatch:
    """Images with everything a labeller says about them."""

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
def label_synthesized(labeller: Labeller, seeds: Sequence[int], *, num_steps: int = 25) -> LabelledBatch:
    """Sample one image per seed in `num_steps` denoising steps, with its labels."""
    images_BHWC, members_KBCHW = labeller.sample(seeds, num_steps=num_steps)
    return _batch(images_BHWC, members_KBCHW, labeller.classes)


@torch.inference_mode()
def label_encoded(labeller: Labeller, images_BHWC: np.ndarray, *, seeds: Sequence[int]) -> LabelledBatch:
    """Label real images (uint8 RGB), one seed each."""
    return _batch(np.asarray(images_BHWC), labeller.members(images_BHWC, seeds=seeds), labeller.classes)


class LabellerPredictor:
    """A labeller as a predictor, for reports."""

    def __init__(self, labeller: Labeller) -> None:
        self.labeller = labeller

    @torch.inference_mode()
    def predict(self, images_BHWC: np.ndarray) -> Prediction:
        """uint8 RGB images -> mean channel probabilities, instances, and how far the members disagree."""
        members_KBCHW = self.labeller.members(images_BHWC, seeds=range(len(images_BHWC))).cpu().numpy()
        prediction = as_prediction(members_KBCHW.mean(axis=0), self.labeller.classes)
        return replace(prediction, divergence_BHW=js_divergence(members_KBCHW))


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
