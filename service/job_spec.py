"""What a user may ask for: the typed, bounded body of a job.

`None` in a number of the head, student or network means "the models' own default", which only models know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, model_validator

Name = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]
Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Reference = Annotated[str, StringConstraints(min_length=1, max_length=120, pattern=r"^[^\x00-\x1f\x7f]+$")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Steps = Annotated[int, Field(ge=1, le=10_000_000)]
BatchSize = Annotated[int, Field(ge=1, le=4_096)]
LearningRate = Annotated[float, Field(gt=0, le=1)]
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
    "segformer_nano",
    "segformer_b0",
    "segformer_b1",
    "segformer_b2",
    "segformer_b3",
    "segformer_b4",
    "segformer_b5",
    "mask2former_nano",
    "mask2former_swin_tiny",
]

QUARTER_RESOLUTION = frozenset({"upernet_resnet", "upernet_resnet_50", "upernet_resnet_101"})
"""Architectures whose first stage has stride 4 and no other."""

INSTANCE_NETWORKS = frozenset({"mask2former_nano", "mask2former_swin_tiny"})
"""Architectures that answer masks with a class each, by hard labels; the others answer a class per pixel."""

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
        if self.architecture in QUARTER_RESOLUTION and self.first_stride not in (None, 4):
            raise ValueError(f"the first stage of {self.architecture} has stride 4 and no other")
        return self


class LabelSpec(SpecPart):
    """Annotation set + generator -> head -> dataset -> student -> report."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "label",
                    "annotation_set_id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
                    "generator": "portraits",
                    "num_images": 2000,
                }
            ]
        }
    )

    kind: Literal["label"]
    """The kind of job."""
    name: Name | None = None
    """What people call the job; empty: made from its kind and generator."""
    annotation_set_id: Reference
    """The few annotated images."""
    generator: Reference | None = None
    """Id or name of a ready generator; left out with head kind student, and with no other."""
    image_pool_id: Reference | None = None
    """Sealed pool of real images; needed for the encoded pool."""
    evaluation_set_id: Reference | None = None
    """Held-out annotated images; without them the report has the head's cross-validated score only, for a handful of
    labels an estimate from quicker fits."""
    pools: Annotated[list[PoolKind], Field(min_length=1, max_length=2)] = ["synthesized"]
    """Where the dataset's images come from: sampled, or real images encoded, or both."""
    num_images: Annotated[int, Field(ge=1, le=10_000_000)] = 2_000
    """Images to synthesize."""
    max_encoded_images: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Most images of the pool to encode, from its start; empty: all."""
    sampling_steps: Annotated[int, Field(ge=1, le=1_000)] | None = None
    """Denoising steps per synthesized image."""
    seed: Seed = 0
    """Same seed, same machine: same dataset."""
    stop_after: Literal["dataset", "student"] = "student"
    """Stop when the dataset is exported, or go on to the student and its report."""
    head: HeadSpec = HeadSpec()
    """How the task head is fitted."""
    filter: FilterSpec = FilterSpec()
    """What is kept."""
    student: StudentSpec = StudentSpec()
    """Which network is distilled."""

    @model_validator(mode="after")
    def _check_pools(self) -> Self:
        _refuse_repeated(self.pools)
        if "encoded" in self.pools and self.image_pool_id is None:
            raise ValueError("the encoded pool needs image_pool_id")
        return self

    @model_validator(mode="after")
    def _check_labeller(self) -> Self:
        if self.head.kind != "student":
            if self.generator is None:
                raise ValueError(f"the head {self.head.kind} reads a generator's features: generator must name one")
            return self
        if self.generator is not None:
            raise ValueError("the head student uses no generator: leave generator out")
        if self.pools != ["encoded"]:
            raise ValueError('the head student draws no images: pools must be ["encoded"]')
        if self.head.tap_timestep is not None:
            raise ValueError("the head student reads no features: leave head.tap_timestep out")
        if self.student.mode != "label":
            raise ValueError(f"the mode {self.student.mode} distils a generator's features: student.mode must be label")
        if self.student.architecture in INSTANCE_NETWORKS:
            raise ValueError(f"the head student labels every pixel, and {self.student.architecture} answers masks")
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


class TrainGeneratorSpec(SpecPart):
    """Image pool -> generator, from random weights or from those of another."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "train_generator",
                    "name": "tissue",
                    "image_pool_id": "pool_01kaxv5t8q3m6n9p2r4s7t0v1w",
                    "minutes": 30.0,
                }
            ]
        }
    )

    kind: Literal["train_generator"]
    """The kind of job."""
    name: Slug
    """Name of the new generator; must be free."""
    image_pool_id: Reference
    """Sealed pool to learn from."""
    base_generator: Reference | None = None
    """Id or name of a ready generator to begin with, of a diffusion family and the pool's image size; its weights learn
    on. Empty: a new network with random weights."""
    lora_rank: Annotated[int, Field(ge=1, le=256)] | None = None
    """Of a base generator train low-rank adapters of its attention alone and merge them in the end: for large networks
    and few images. Empty: all of its weights learn."""
    steps: Steps | None = None
    """Optimiser steps; at most one of steps and minutes."""
    minutes: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Time budget instead of steps."""
    batch_size: BatchSize | None = None
    """Images per optimiser step; empty: 8, on an accelerator 32."""
    network: NetworkSpec = NetworkSpec()
    """Size of a new network; a base generator brings its own."""
    learning_rate: LearningRate | None = None
    """Step size of the optimiser."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the moving average of the weights."""
    seed: Seed = 0
    """Seed of weights, batches and noise."""
    holdout_share: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Share of the pool kept out of training, to measure against."""

    @model_validator(mode="after")
    def _check_budget(self) -> Self:
        if self.steps is not None and self.minutes is not None:
            raise ValueError("give steps or minutes, not both")
        return self

    @model_validator(mode="after")
    def _check_base(self) -> Self:
        if self.base_generator is not None and self.network != NetworkSpec():
            raise ValueError("a base generator brings its own network: leave out network or base_generator")
        if self.base_generator is None and self.lora_rank is not None:
            raise ValueError("lora_rank is for a base generator: random weights must all learn")
        return self


class TrainStudentSpec(SpecPart):
    """The few labels alone -> student -> report: what a student is without the factory."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "train_student",
                    "annotation_set_id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
                    "evaluation_set_id": "ann_01kaxv6b2c4d6e8f0g2h4j6k8m",
                }
            ]
        }
    )

    kind: Literal["train_student"]
    """The kind of job."""
    name: Name | None = None
    """What people call the job; empty: made from its kind and annotation set."""
    annotation_set_id: Reference
    """The few annotated images."""
    evaluation_set_id: Reference | None = None
    """Held-out annotated images; without them there is no report."""
    student: StudentSpec = StudentSpec()
    """Which network is trained, for the sum of `steps` and `finetune_steps`; nothing is distilled."""
    seed: Seed = 0
    """Seed of weights, batches and augmentation."""

    @model_validator(mode="after")
    def _check_student(self) -> Self:
        refused = self.student.model_dump(exclude_defaults=True).keys() & DISTILLATION_FIELDS
        if refused:
            names = ", ".join(sorted(refused))
            raise ValueError(f"nothing is distilled from a dataset or generator here: leave out student's {names}")
        return self


class DistillSpec(SpecPart):
    """Sealed dataset -> another student -> report; head and dataset stay as they are."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "distill",
                    "dataset_id": "ds_01kaxv9k7m9n1p3q5r7s9t1v3w",
                    "evaluation_set_id": "ann_01kaxv6b2c4d6e8f0g2h4j6k8m",
                    "student": {"architecture": "segformer_b0", "temperature": 4.0},
                }
            ]
        }
    )

    kind: Literal["distill"]
    """The kind of job."""
    name: Name | None = None
    """What people call the job; empty: made from its kind and dataset."""
    dataset_id: Reference
    """The sealed dataset to learn from."""
    annotation_set_id: Reference | None = None
    """The few annotated images to learn beside it; empty: those that the dataset was labelled from."""
    evaluation_set_id: Reference | None = None
    """Held-out annotated images; without them there is no report."""
    pools: Annotated[list[PoolKind], Field(min_length=1, max_length=2)] | None = None
    """Only the dataset's images of these pools; empty: all."""
    student: StudentSpec = StudentSpec()
    """Which network is distilled; the modes feature and mix use the generator that the dataset was labelled with."""
    seed: Seed = 0
    """Seed of weights, batches and augmentation."""

    @model_validator(mode="after")
    def _check_pools(self) -> Self:
        _refuse_repeated(self.pools or [])
        return self


class EvaluateSpec(SpecPart):
    """A student, or the head that labelled a dataset -> report."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "evaluate",
                    "student_id": "stu_01kaxvd3f5g7h9j1k3m5n7p9q1",
                    "evaluation_set_id": "ann_01kaxv6b2c4d6e8f0g2h4j6k8m",
                }
            ]
        }
    )

    kind: Literal["evaluate"]
    """The kind of job."""
    name: Name | None = None
    """What people call the job; empty: made from its kind and what is measured."""
    evaluation_set_id: Reference
    """Held-out annotated images."""
    student_id: Reference | None = None
    """The student to measure; exactly one of student_id and dataset_id."""
    dataset_id: Reference | None = None
    """The dataset whose head is measured."""

    @model_validator(mode="after")
    def _check_subject(self) -> Self:
        if (self.student_id is None) == (self.dataset_id is None):
            raise ValueError("give exactly one of student_id and dataset_id")
        return self


def _refuse_repeated(pools: Sequence[PoolKind]) -> None:
    if len(set(pools)) != len(pools):
        raise ValueError("pools names one pool twice")


JobSpec = Annotated[
    LabelSpec | TrainGeneratorSpec | TrainStudentSpec | DistillSpec | EvaluateSpec, Field(discriminator="kind")
]
"""Any job."""
_ADAPTER: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)


def parse(document: Mapping[str, Any]) -> JobSpec:
    """Read a stored spec; raises pydantic's ValidationError if it is not one."""
    return _ADAPTER.validate_python(dict(document))


def dump(spec: JobSpec) -> dict[str, Any]:
    """The spec as plain JSON values, defaults filled in."""
    return spec.model_dump(mode="json")
