"""The kinds of labellers by name: how each is configured, fitted and read back.

A new kind is one class with the `Labeller` protocol, one config, one fit, and a row here.
"""

from collections.abc import Callable
from dataclasses import dataclass

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
