"""What a user may ask for: the typed, bounded body of a job, one class for each kind (its parts: `spec_parts.py`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from service.errors import UnreadableSpec
from service.spec_parts import (
    DISTILLATION_FIELDS,
    INSTANCE_NETWORKS,
    BatchSize,
    FilterSpec,
    HeadSpec,
    LearningRate,
    Name,
    NetworkSpec,
    PoolKind,
    Reference,
    Seed,
    Slug,
    SpecPart,
    Steps,
    StudentSpec,
)


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
    encoder: Reference | None = None
    """Id or name of a ready frozen encoder that labels beside the generator: a head is fitted on each, and the labels are
    the mean of both. Beside a generator that only draws, a GAN, it labels alone."""
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
        if self.generator is not None or self.encoder is not None:
            raise ValueError("the head student reads no features: leave generator and encoder out")
        if self.pools != ["encoded"]:
            raise ValueError('the head student draws no images: pools must be ["encoded"]')
        if self.head.tap_timestep is not None:
            raise ValueError("the head student reads no features: leave head.tap_timestep out")
        if self.head.tap_blocks is not None:
            raise ValueError("the head student reads no features: leave head.tap_blocks out")
        if self.student.mode != "label":
            raise ValueError(f"the mode {self.student.mode} distils a generator's features: student.mode must be label")
        if self.student.architecture in INSTANCE_NETWORKS:
            raise ValueError(f"the head student labels every pixel, and {self.student.architecture} answers masks")
        return self


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


class ExportSpec(SpecPart):
    """Sealed dataset -> a download in some format, made anew; an export of that format it had is replaced."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kind": "export", "dataset_id": "ds_01kaxv9k7m9n1p3q5r7s9t1v3w"}]}
    )

    kind: Literal["export"]
    """The kind of job."""
    name: Name | None = None
    """What people call the job; empty: made from its kind and dataset."""
    dataset_id: Reference
    """The sealed dataset."""
    format: Literal["coco"] = "coco"
    """A zip with images, `annotations.json` and label maps."""


def _refuse_repeated(pools: Sequence[PoolKind]) -> None:
    if len(set(pools)) != len(pools):
        raise ValueError("pools names one pool twice")


JobSpec = Annotated[
    LabelSpec | TrainGeneratorSpec | TrainStudentSpec | DistillSpec | EvaluateSpec | ExportSpec,
    Field(discriminator="kind"),
]
"""Any job."""
_ADAPTER: TypeAdapter[JobSpec] = TypeAdapter(JobSpec)


def parse(document: Mapping[str, Any]) -> JobSpec:
    """Read a stored spec. Raises UnreadableSpec, which names the options, for one of another release."""
    try:
        return _ADAPTER.validate_python(dict(document))
    except ValidationError as error:
        options = "; ".join(
            f"{'.'.join(map(str, found['loc'])) or 'kind'}: {found['msg']}" for found in error.errors()[:5]
        )
        raise UnreadableSpec(
            f"The job was made by another release, and this one cannot read its options: {options}."
        ) from None


def dump(spec: JobSpec) -> dict[str, Any]:
    """The spec as plain JSON values, defaults filled in."""
    return spec.model_dump(mode="json")
