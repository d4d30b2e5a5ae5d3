"""The parts that jobs of several kinds are made of: names, numbers, head, filter, student, network.

`None` in a number of the head, student or network means "the models' own default", which only models know.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
BatchSize = Annotated[int, Field(ge=1, le=4_096)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
TapName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
PoolKind = Literal["synthesized", "encoded"]
HeadKind = Literal["fusion", "pixel_mlp", "student"]
Architecture = Literal[
    "upernet_textnet",
    "upernet_convnext",
    "upernet_convnext_tiny",
    "upernet_convnext_small",
    "upernet_convnext_base",
    "upernet_swin_tiny",
    "upernet_swin_small",
    "upernet_swin_base",
    "upernet_resnet",
    "upernet_resnet_50",
    "upernet_resnet_101",
    "upernet_efficientnet_lite0",
    "segformer_nano",
    "segformer_b0",
    "segformer_b1",
    "segformer_b2",
    "segformer_b3",
    "segformer_b4",
    "segformer_b5",
    "mask2former_nano",
    "mask2former_swin_tiny",
    "rtdetr_nano",
    "rtdetr_resnet_18",
]

FIXED_STRIDES = {
    "upernet_resnet": 4,
    "upernet_resnet_50": 4,
    "upernet_resnet_101": 4,
    "upernet_efficientnet_lite0": 2,
    "rtdetr_resnet_18": 4,
}
"""Architectures whose first stage has this stride and no other."""

DETECTORS = frozenset({"rtdetr_nano", "rtdetr_resnet_18"})
"""Architectures that answer boxes with a class each."""

DETECTOR_SIDE = 32
"""Detectors take images whose sides are multiples of this."""

INSTANCE_NETWORKS = frozenset({"mask2former_nano", "mask2former_swin_tiny", *DETECTORS})
"""Architectures that answer objects, masks or boxes with a class each, by hard labels; the others answer a class per pixel."""

DISTILLATION_FIELDS = frozenset({"mode", "feature_weight", "temperature", "labels", "example_share"})
"""Fields of a student that mean nothing where it learns from the few labels alone."""


class SpecPart(BaseModel):
    """Base of all parts: no conversion, no unknown key, no NaN, never changed."""

    model_config = ConfigDict(
        strict=True, extra="forbid", allow_inf_nan=False, frozen=True, use_attribute_docstrings=True
    )


class HeadSpec(SpecPart):
    """How what labels the images is fitted to the few annotated ones."""

    kind: HeadKind = "fusion"
    """On the generator's features: the fusion interpreter, members on a shared trunk; or pixel_mlp, the pixel classifiers
    of DatasetGAN and DDPM-seg. Or student, without a generator: the student's network, trained on the few labels alone."""
    members: Annotated[int, Field(ge=1, le=32)] | None = None
    """Members whose disagreement is the uncertainty."""
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Optimiser steps; with kind student of every member."""
    tap_timestep: Annotated[int, Field(ge=0, le=1_000)] | None = None
    """Diffusion time at which features are read; empty: several together, or the best by cross-validation.
    Not with kind student."""
    tap_blocks: Annotated[list[TapName], Field(min_length=1, max_length=256)] | None = None
    """Names of the generator's or encoder's taps that are read (a report's `taps` has them); of a source with none of
    them, and empty, all. Not with kind student."""
    learning_rate: LearningRate | None = None
    """Step size of the optimiser."""
    batch_size: BatchSize | None = None
    """Images per optimiser step."""


class FilterSpec(SpecPart):
    """What of the labelled images is kept."""

    drop_share: Annotated[float, Field(ge=0, le=0.95)] = 0.1
    """Share of the images, the most uncertain, that is dropped."""
    ignore_pixel_share: Annotated[float, Field(ge=0, le=0.95)] = 0.0
    """Share of the pixels, the most uncertain, that is marked as ignore."""


class StudentSpec(SpecPart):
    """Which network is distilled and for how long."""

    architecture: Architecture = "upernet_textnet"
    """A transformers architecture, built from its configuration: family by family, each from small to large."""
    first_stride: Literal[1, 2, 4] | None = None
    """Pixels per feature pixel after the first stage; finer keeps thin structures and costs time. Empty: by image size."""
    weights: Slug | None = None
    """Name of a folder of weights that the operator offers, which the backbone starts from; it brings its own first
    stride. Empty: everything starts afresh. The few-label baseline starts from the same."""
    mode: Literal["label", "feature", "mix"] = "label"
    """What is distilled: the head's soft labels into the student's logits, the generator's features into its backbone
    (followed by a fine-tune on the few annotated images), or both together."""
    feature_weight: Annotated[float, Field(ge=0, le=1_000)] | None = None
    """Weight of the feature loss beside the label loss; with mode mix only."""
    temperature: Annotated[float, Field(gt=0, le=100)] | None = None
    """Softens teacher and student distributions alike; not with mode feature."""
    labels: Literal["soft", "hard"] = "soft"
    """The head's class distribution per pixel, or only its most probable class, which is all that an instance network
    learns; not with mode feature."""
    example_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of each batch of the distillation drawn from the few annotated images; 0: none. Not with mode feature."""
    steps: Steps | None = None
    """Optimiser steps of the distillation; at most one of steps and seconds."""
    seconds: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    """Time budget of the distillation instead of steps."""
    finetune_steps: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """Optimiser steps on the few annotated images afterwards; 0: none. Mode feature needs some: empty takes half of steps."""
    batch_size: BatchSize | None = None
    """Images per optimiser step."""
    learning_rate: LearningRate | None = None
    """Step size of the optimiser."""

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.steps is not None and self.seconds is not None:
            raise ValueError("give steps or seconds, not both")
        return self

    @model_validator(mode="after")
    def _check_mode(self) -> Self:
        if self.mode != "mix" and self.feature_weight is not None:
            raise ValueError("feature_weight is for the mode mix")
        if self.mode == "feature" and self.temperature is not None:
            raise ValueError("the mode feature distils no labels, so it has no temperature")
        if self.mode == "feature" and (self.labels == "hard" or self.example_share is not None):
            raise ValueError("the mode feature distils no labels: labels and example_share are for label and mix")
        if self.mode == "feature" and self.finetune_steps == 0:
            raise ValueError("the mode feature trains the decoder in the fine-tune: finetune_steps must not be 0")
        return self

    @model_validator(mode="after")
    def _check_task(self) -> Self:
        if self.architecture in INSTANCE_NETWORKS:
            if self.mode == "mix":
                raise ValueError(f"{self.architecture} learns labels or features, one after the other: no mode mix")
            if self.temperature is not None:
                raise ValueError(f"{self.architecture} learns hard labels, which have no temperature")
        return self

    @model_validator(mode="after")
    def _check_stride(self) -> Self:
        if self.weights is not None and self.first_stride is not None:
            raise ValueError("weights bring the first stride they were trained with: leave out first_stride")
        only = FIXED_STRIDES.get(self.architecture)
        if only is not None and self.first_stride not in (None, only):
            raise ValueError(f"the first stage of {self.architecture} has stride {only} and no other")
        return self


class NetworkSpec(SpecPart):
    """Size of a diffusion generator's network."""

    block_out_channels: (
        Annotated[list[Annotated[int, Field(ge=8, le=2_048, multiple_of=8)]], Field(min_length=1, max_length=8)] | None
    ) = None
    """Channels of each resolution, fine to coarse; multiples of 8."""
    layers_per_block: Annotated[int, Field(ge=1, le=8)] | None = None
    """Residual layers at each resolution."""
    patch_size: Literal[1, 2, 4, 8] | None = None
    """Pixels are folded into channels by this factor before the network."""
    attention: bool | None = None
    """Attention at the coarsest resolution."""
