"""What a job was asked to do, in a few rows, and what to do when it failed."""

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from api.dashboard.formatting import count, duration, job_title, percent
from service import annotation_sets, datasets, generators, image_pools, students
from service.errors import NotFound, UnreadableSpec
from service.job_spec import (
    DistillSpec,
    EvaluateSpec,
    ExportSpec,
    JobSpec,
    LabelSpec,
    TrainGeneratorSpec,
    TrainStudentSpec,
    parse,
)
from service.spec_parts import HeadKind, StudentSpec
from service.tables import AnnotationSet, Dataset, Generator, ImagePool, Job, Student
from service.unit_of_work import Work

Row = tuple[str, Any]
ADVICE = {
    "storage-full": "Free space on the disk, then retry: finished shards and checkpoints are kept.",
    "out-of-memory": "Retry with a smaller batch size or a smaller student, or on a machine with more memory.",
    "worker-lost": "A worker vanished while it ran this step. Its log says why; when that is mended, retry.",
    "other-release": "Update the workers, then retry; or ask for the job anew.",
    "invalid": "Mend what is named above and submit the job anew.",
}
LABELLERS: dict[HeadKind, str] = {
    "fusion": "a fusion head",
    "pixel_mlp": "pixel classifiers",
    "student": "students trained on the annotations alone",
}
RETRY = "Retry goes on from the last checkpoint; finished steps are kept. If it fails again, the worker's log has more."


PAGES: dict[str, Callable[..., Generator | AnnotationSet | Dataset | Student]] = {
    "generators": generators.get,
    "annotation-sets": annotation_sets.get,
    "datasets": datasets.get,
    "students": students.get,
}
"""Nouns with a page, and how a row of theirs is found."""


def advice(job: Job) -> str:
    """What a person can do about a failed job."""
    kind = str((job.error or {}).get("type", "")).rpartition(":")[2]
    return ADVICE.get(kind, RETRY)


def summary(work: Work, job: Job) -> list[Row]:
    """The telling rows of a job's spec."""
    try:
        spec = parse(job.spec)
    except UnreadableSpec as error:
        return [("Kind", job_title(job.kind)), ("Asked", error.detail), ("Id", job.id)]
    seed = None if isinstance(spec, EvaluateSpec | ExportSpec) else str(spec.seed)
    return [("Kind", job_title(job.kind)), *_asked(work, spec), ("Seed", seed), ("Id", job.id)]


def _asked(work: Work, spec: JobSpec) -> list[Row]:
    match spec:
        case LabelSpec():
            return _label(work, spec)
        case TrainGeneratorSpec():
            return _train(work, spec)
        case TrainStudentSpec():
            return _train_student(work, spec)
        case DistillSpec():
            return _distill(work, spec)
        case EvaluateSpec():
            return _evaluate(work, spec)
        case ExportSpec():
            return [("Dataset", _link(work, "datasets", spec.dataset_id)), ("Format", spec.format.upper())]


def _label(work: Work, spec: LabelSpec) -> list[Row]:
    rows: list[Row] = [
        ("Annotations", _link(work, "annotation-sets", spec.annotation_set_id)),
        ("Held-out images", _link(work, "annotation-sets", spec.evaluation_set_id)),
        ("Generator", _link(work, "generators", spec.generator)),
        ("Encoder beside it", _link(work, "generators", spec.encoder)),
        ("Labelled by", LABELLERS[spec.head.kind]),
        ("Unlabelled images", _link(work, "image-pools", spec.image_pool_id)),
        ("Pools", " and ".join(spec.pools)),
        ("To synthesize", f"{count(spec.num_images)} images" if "synthesized" in spec.pools else None),
        ("Dropped", f"the most uncertain {percent(spec.filter.drop_share)}" if spec.filter.drop_share else "nothing"),
    ]
    if spec.stop_after == "dataset":
        return [*rows, ("Stops after", "the dataset")]
    return [*rows, *_distils(spec.student)]


def _distils(student: StudentSpec) -> list[Row]:
    budget = _budget(student)
    return [("Student", student.architecture), ("Distils", f"{student.mode}{', ' + budget if budget else ''}")]


def _budget(student: StudentSpec) -> str:
    return f"{count(student.steps)} steps" if student.steps else duration(student.seconds) if student.seconds else ""


def _train_student(work: Work, spec: TrainStudentSpec) -> list[Row]:
    return [
        ("Learns from", _link(work, "annotation-sets", spec.annotation_set_id)),
        ("Held-out images", _link(work, "annotation-sets", spec.evaluation_set_id)),
        ("Student", spec.student.architecture),
        ("Budget", _budget(spec.student)),
    ]


def _train(work: Work, spec: TrainGeneratorSpec) -> list[Row]:
    budget = f"{count(spec.steps)} steps" if spec.steps else f"{spec.minutes:g} minutes" if spec.minutes else None
    return [
        ("Generator", spec.name),
        ("Begins with", _link(work, "generators", spec.base_generator)),
        ("Learns", f"adapters of rank {spec.lora_rank}" if spec.lora_rank else None),
        ("Learns from", _link(work, "image-pools", spec.image_pool_id)),
        ("Budget", budget),
        ("Held out", percent(spec.holdout_share)),
    ]


def _distill(work: Work, spec: DistillSpec) -> list[Row]:
    return [
        ("Learns from", _link(work, "datasets", spec.dataset_id)),
        ("Pools", " and ".join(spec.pools) if spec.pools else "all"),
        ("Annotations", _link(work, "annotation-sets", spec.annotation_set_id)),
        ("Held-out images", _link(work, "annotation-sets", spec.evaluation_set_id)),
        *_distils(spec.student),
    ]


def _evaluate(work: Work, spec: EvaluateSpec) -> list[Row]:
    return [
        ("Student", _link(work, "students", spec.student_id)),
        ("Head of", _link(work, "datasets", spec.dataset_id)),
        ("Held-out images", _link(work, "annotation-sets", spec.evaluation_set_id)),
    ]


def _link(work: Work, noun: str, row_id: str | None) -> Markup | str | None:
    """A row's name, linked where it has a page."""
    if row_id is None:
        return None
    try:
        if noun == "image-pools":
            pool = image_pools.get(work, row_id, deleted=True)
            return f"{pool.name} ({count(pool.num_images)}){_deleted(pool)}"
        row = PAGES[noun](work, row_id, deleted=True)
    except NotFound:
        return row_id
    if row.deleted_at is not None and noun != "datasets":  # a deleted dataset shows its card
        return row.name + _deleted(row)
    return Markup('<a href="/{}/{}">{}</a>').format(noun, row.id, row.name)


def _deleted(row: Generator | AnnotationSet | Dataset | Student | ImagePool) -> str:
    return "" if row.deleted_at is None else ", deleted"
