"""Checks a job's references before it is made: everything that is wrong is said at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service import datasets, generators, job_references, origins
from service.generator_families import GENERATOR_FAMILIES, label_faults
from service.job_references import Faults, ImageSize
from service.job_spec import (
    DistillSpec,
    EvaluateSpec,
    ExportSpec,
    JobSpec,
    LabelSpec,
    TrainGeneratorSpec,
    TrainStudentSpec,
)
from service.lookup import find
from service.tables import AnnotationSet, Dataset, Generator, Student
from service.unit_of_work import Work

SMALLEST_POOL = 16
"""Images that a generator needs at least; models know the same number."""
POOL_CHANNELS = 3
"""Pools are stored in colour."""
MAX_NAME = 120
"""Characters of a job's name."""


@dataclass(frozen=True)
class CheckedSpec:
    """A spec whose references are sound."""

    spec: JobSpec
    """The spec, with a generator's name replaced by its id so that a later name cannot change the job."""
    name: str
    """What the job is called where the user gave it no name."""


def check(work: Work, spec: JobSpec) -> CheckedSpec:
    """Check every reference of a spec. Raises Invalid."""
    match spec:
        case LabelSpec():
            return _check_label(work, spec)
        case TrainStudentSpec():
            return _check_train_student(work, spec)
        case DistillSpec():
            return _check_distill(work, spec)
        case EvaluateSpec():
            return _check_evaluate(work, spec)
        case ExportSpec():
            return _check_export(work, spec)
        case TrainGeneratorSpec():
            return _check_train_generator(work, spec)


def _check_label(work: Work, spec: LabelSpec) -> CheckedSpec:
    faults = Faults()
    generator = None if spec.generator is None else _ready_generator(work, faults, spec.generator, spec)
    size = None if generator is None else job_references.size_of(generator)
    few = job_references.few(work, faults, spec.annotation_set_id, size)
    if size is None and few is not None:
        size = job_references.size_of_set(few)
    encoder = None if spec.encoder is None else _ready_encoder(work, faults, spec.encoder, generator, size)
    job_references.held_out(work, faults, spec.evaluation_set_id, few, size)
    if spec.image_pool_id is not None:
        job_references.pool(work, faults, spec.image_pool_id, size)
    job_references.network(work, faults, spec.student, few)
    if "synthesized" in spec.pools and spec.num_images > work.settings.max_job_images:
        faults.add("num_images", f"At most {work.settings.max_job_images} images are synthesized by one job here.")
    faults.raise_if_any()
    if generator is None:
        return CheckedSpec(spec, "label with students")
    pinned = {"generator": generator.id, "encoder": None if encoder is None else encoder.id}
    return CheckedSpec(
        spec.model_copy(update=pinned), f"label with {' and '.join(_names(generator, encoder))}"[:MAX_NAME]
    )


def _ready_generator(work: Work, faults: Faults, reference: str, spec: LabelSpec) -> Generator | None:
    """The generator that is named, fit for what the job asks or not."""
    generator = generators.find(work, reference)
    if generator is None:
        faults.add("generator", f"There is no generator {reference}.")
    elif generator.state != "ready":
        faults.add("generator", f"The generator {generator.name} is {generator.state}, not ready.")
    else:
        faults.found += label_faults(
            generator.name, generator.family, spec.pools, spec.head.tap_timestep, encoder=spec.encoder is not None
        )
    return generator


def _ready_encoder(
    work: Work, faults: Faults, reference: str, generator: Generator | None, size: ImageSize | None
) -> Generator | None:
    """The encoder that is to label beside the generator."""
    place, encoder = "encoder", generators.find(work, reference)
    if encoder is None:
        faults.add(place, f"There is no encoder {reference}.")
    elif encoder.family != "encoder":
        title = GENERATOR_FAMILIES[encoder.family].title
        faults.add(
            place, f"{encoder.name} is no frozen encoder but a generator ({title}); name it as generator instead."
        )
    elif generator is not None and encoder.id == generator.id:
        faults.add(place, f"The encoder {encoder.name} is the generator already; leave encoder out.")
    elif size is not None and encoder.image_height is not None:
        size.check(faults, place, f"encoder {encoder.name}", encoder.image_height, encoder.image_width)
    return encoder


def _names(*rows: Generator | None) -> list[str]:
    return [row.name for row in rows if row is not None]


def _check_train_student(work: Work, spec: TrainStudentSpec) -> CheckedSpec:
    faults = Faults()
    few = job_references.few(work, faults, spec.annotation_set_id, None)
    size = None if few is None else job_references.size_of_set(few)
    job_references.held_out(work, faults, spec.evaluation_set_id, few, size)
    job_references.network(work, faults, spec.student, few)
    faults.raise_if_any()
    assert few is not None
    return CheckedSpec(spec, f"train on {few.name} alone"[:MAX_NAME])


def _check_distill(work: Work, spec: DistillSpec) -> CheckedSpec:
    faults = Faults()
    dataset = job_references.dataset(work, faults, spec.dataset_id)
    origin = None if dataset is None else origins.of_dataset(work, dataset)
    size = None if dataset is None else job_references.size_of_dataset(dataset)
    few_id = spec.annotation_set_id or (None if origin is None else origin.spec.annotation_set_id)
    few = None if few_id is None else job_references.few(work, faults, few_id, size)
    if dataset is not None and few is not None:
        job_references.check_classes(faults, "annotation_set_id", few, dataset.classes, f"dataset {dataset.id}")
    job_references.held_out(work, faults, spec.evaluation_set_id, few, size)
    if dataset is not None and origin is not None:
        if few_id != origin.spec.annotation_set_id:
            job_references.check_unseen(faults, spec.evaluation_set_id, [origin.spec.annotation_set_id])
        _check_what_is_distilled(work, faults, spec, dataset, origin.spec)
    job_references.network(work, faults, spec.student, few)
    faults.raise_if_any()
    assert dataset is not None
    return CheckedSpec(spec.model_copy(update={"annotation_set_id": few_id}), f"distil {dataset.name}"[:MAX_NAME])


def _check_what_is_distilled(
    work: Work, faults: Faults, spec: DistillSpec, dataset: Dataset, labelled: LabelSpec
) -> None:
    """The dataset must have the pools that are wanted, and for features a generator."""
    has = {shard.pool_kind for shard in datasets.shards(work, dataset.id)}
    missing = [pool for pool in spec.pools or [] if pool not in has]
    if missing:
        images = ", ".join(sorted(has))
        faults.add("pools", f"The dataset {dataset.id} has no {missing[0]} images; its images are {images}.")
    if spec.student.mode == "label":
        return
    generator = generators.find(work, labelled.generator) if labelled.generator else None
    if generator is None or generator.state != "ready":
        faults.add(
            "student.mode", f"The dataset {dataset.id} has no generator whose features could be distilled; use label."
        )


def _check_evaluate(work: Work, spec: EvaluateSpec) -> CheckedSpec:
    faults = Faults()
    subject = (
        _student(work, faults, spec.student_id)
        if spec.student_id is not None
        else _head(work, faults, spec.dataset_id or "")
    )
    place = "evaluation_set_id"
    held_out = job_references.annotation_set(
        work, faults, place, spec.evaluation_set_id, None if subject is None else subject.size
    )
    if subject is not None and held_out is not None:
        job_references.check_classes(faults, place, held_out, subject.classes, subject.noun)
        job_references.check_unseen(faults, held_out.id, subject.learned_from)
    faults.raise_if_any()
    assert subject is not None
    return CheckedSpec(spec, f"evaluate {subject.title}"[:MAX_NAME])


@dataclass(frozen=True)
class Subject:
    """What a job measures."""

    title: str
    """What people call it."""
    noun: str
    """How a message names it."""
    classes: list[dict[str, Any]]
    """What it predicts."""
    size: ImageSize
    """Of the images it was made for."""
    learned_from: list[str]
    """Annotation sets that it must not be measured on."""


def _student(work: Work, faults: Faults, student_id: str) -> Subject | None:
    student = find(work, Student, student_id)
    if student is None:
        faults.add("student_id", f"There is no student {student_id}.")
        return None
    sets = origins.learned_from(work, student.job_id)
    few = work.session.get_one(AnnotationSet, sets[0])
    size = ImageSize(few.image_height, few.image_width, f"the student {student_id} was trained on")
    return Subject(student.name, f"student {student_id}", student.classes, size, sets)


def _head(work: Work, faults: Faults, dataset_id: str) -> Subject | None:
    dataset = job_references.dataset(work, faults, dataset_id)
    if dataset is None:
        return None
    labelled = origins.of_dataset(work, dataset).spec
    for name in (labelled.generator, labelled.encoder):
        if name is not None and generators.find(work, name) is None:
            message = f"The generator {name} that labelled the dataset {dataset_id} was deleted, and its head reads it."
            faults.add("dataset_id", message)
    sets = origins.learned_from(work, dataset.job_id)
    title, noun = f"the head of {dataset.name}", f"dataset {dataset_id}"
    return Subject(title, noun, dataset.classes, job_references.size_of_dataset(dataset), sets)


def _check_export(work: Work, spec: ExportSpec) -> CheckedSpec:
    faults = Faults()
    dataset = job_references.dataset(work, faults, spec.dataset_id)
    faults.raise_if_any()
    assert dataset is not None
    return CheckedSpec(spec, f"export {dataset.name}"[:MAX_NAME])


def _check_train_generator(work: Work, spec: TrainGeneratorSpec) -> CheckedSpec:
    faults = Faults()
    base = None if spec.base_generator is None else generators.find(work, spec.base_generator)
    if spec.base_generator is not None:
        _check_base(faults, spec, base)
    pool = job_references.pool(work, faults, spec.image_pool_id, None)
    if pool is not None and pool.num_images < SMALLEST_POOL:
        message = f"The pool {pool.id} has {pool.num_images} images; a generator needs at least {SMALLEST_POOL}."
        faults.add("image_pool_id", message)
    if pool is not None and base is not None and (size := job_references.size_of(base)) is not None:
        size.check(faults, "base_generator", f"image pool {pool.id}", pool.image_height, pool.image_width)
    taken = generators.find(work, spec.name)
    if taken is not None and taken.state != "failed":
        faults.add("name", f"There is already a generator {spec.name} ({taken.state}); choose another name.")
    faults.raise_if_any()
    pinned = spec if base is None else spec.model_copy(update={"base_generator": base.id})
    return CheckedSpec(pinned, spec.name)


def _check_base(faults: Faults, spec: TrainGeneratorSpec, base: Generator | None) -> None:
    """The generator to begin with."""
    place = "base_generator"
    if base is None:
        faults.add(place, f"There is no generator {spec.base_generator}.")
    elif base.state != "ready":
        faults.add(place, f"The generator {base.name} is {base.state}, not ready.")
    elif not GENERATOR_FAMILIES[base.family].can_train:
        title = GENERATOR_FAMILIES[base.family].title
        faults.add(place, f"The generator {base.name} ({title}) cannot be trained here; diffusion families can.")
    elif base.image_channels != POOL_CHANNELS:
        message = (
            f"The generator {base.name} makes images of {base.image_channels} channels, pools have {POOL_CHANNELS}."
        )
        faults.add(place, message)
    elif spec.lora_rank is not None and not GENERATOR_FAMILIES[base.family].has_adapters:
        title = GENERATOR_FAMILIES[base.family].title
        faults.add(
            "lora_rank", f"The generator {base.name} ({title}) has too little attention for adapters; leave it out."
        )
