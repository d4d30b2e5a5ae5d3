"""The kinds of labellers by name: how each is configured, fitted and read back.

A new kind is one class with the `Labeller` protocol, one config, one fit, and a row here.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from models.contracts import FeatureSource
from models.heads.fusion import CONFIG
from models.heads.fusion_labeller import FusionLabeller
from models.heads.fusion_training import FusionTrainConfig, fit_fusion
from models.heads.pixel_mlp_labeller import PixelMLPLabeller
from models.heads.pixel_mlp_training import PixelMLPTrainConfig, fit_pixel_mlps
from models.heads.self_training import SelfTrainConfig, SelfTrainedStudents, fit_students
from models.labelling import FittedHead, Labeller


@dataclass(frozen=True)
class HeadKind:
    """One way to label images after seeing a few."""

    config: type
    """Its training config: a dataclass with `members`, `steps`, `batch_size`, `learning_rate` and `seed` among others."""
    fit: Callable[..., FittedHead]
    """`fit(generator, examples, classes, config, *, device, progress, stop, checkpoint_path)`; the generator may be None
    for a kind that uses none."""
    load: Callable[..., Labeller]
    """`load(directory, generator, device)`."""


HEAD_KINDS: dict[str, HeadKind] = {
    FusionLabeller.kind: HeadKind(FusionTrainConfig, fit_fusion, FusionLabeller.load),
    PixelMLPLabeller.kind: HeadKind(PixelMLPTrainConfig, fit_pixel_mlps, PixelMLPLabeller.load),
    SelfTrainedStudents.kind: HeadKind(SelfTrainConfig, fit_students, SelfTrainedStudents.load),
}


def load_labeller(directory: Path, generator: FeatureSource | None, device: torch.device | str = "cpu") -> Labeller:
    """Read a labeller by the kind in its `head.json`."""
    kind = json.loads((directory / CONFIG).read_text())["kind"]
    return HEAD_KINDS[kind].load(directory, generator, device)
