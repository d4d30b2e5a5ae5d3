"""What a report is about: which networks a job measures on which images, and how its sentence begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service import annotation_sets, datasets, students
from service.job_spec import DistillSpec, EvaluateSpec, LabelSpec, TrainStudentSpec
from service.tables import Student
from workers.artifacts import head_output, step_output
from workers.context import StepContext
from workers.problems import StepError


@dataclass(frozen=True)
class Assessment:
    """What this job measures."""

    evaluation_set_id: str | None
    """The held-out images; None: nothing is measured."""
    subject: str
    """What is measured, as the report's sentence begins, where there is no baseline to compare with."""
    student: Student | None = None
    """The student to measure."""
    baseline_key: str | None = None
    """The few-label baseline to measure, packed."""
    head_card: Mapping[str, Any] | None = None
    """Card of the head to measure; None: no head is measured."""


def assessment(context: StepContext) -> Assessment:
    """What this step's job measures."""
    spec = context.step.spec
    match spec:
        case LabelSpec():
            return _of_label(context, spec)
        case TrainStudentSpec():
            return _of_train_student(context, spec)
        case DistillSpec():
            return _of_distill(context, spec)
        case EvaluateSpec():
            return _of_evaluate(context, spec)
    raise AssertionError(f"a job of kind {spec.kind} measures nothing")


def _of_label(context: StepContext, spec: LabelSpec) -> Assessment:
    student = _own_student(context)
    return Assessment(
        spec.evaluation_set_id,
        "The student",
        student=student,
        baseline_key=None if spec.evaluation_set_id is None else _baseline_key(context, student),
        head_card=head_output(context)["card"],
    )


def _baseline_key(context: StepContext, student: Student) -> str:
    """The baseline of this job. Raises StepError when it started from other weights than the student."""
    baseline = step_output(context, "train_baseline")
    if baseline["training"].get("weights") != student.card["recipe"].get("weights"):
        raise StepError(
            "weights-changed",
            "The files of the weights changed between student and baseline, so they cannot be compared.",
            "Give new weights a new name, and submit the job again.",
        )
    return str(baseline["baseline_key"])


def _of_train_student(context: StepContext, spec: TrainStudentSpec) -> Assessment:
    with context.read() as work:
        few = annotation_sets.get(work, spec.annotation_set_id)
    labels = "1 label" if few.num_images == 1 else f"{few.num_images} labels"
    return Assessment(spec.evaluation_set_id, f"The student trained on {labels} alone", student=_own_student(context))


def _of_distill(context: StepContext, spec: DistillSpec) -> Assessment:
    with context.read() as work:
        name = datasets.get(work, spec.dataset_id).name
    images = "" if spec.pools is None else f"the {' and '.join(spec.pools)} images of "
    return Assessment(
        spec.evaluation_set_id, f"The student distilled from {images}{name}", student=_own_student(context)
    )


def _of_evaluate(context: StepContext, spec: EvaluateSpec) -> Assessment:
    with context.read() as work:
        if spec.student_id is not None:
            student = students.get(work, spec.student_id)
            return Assessment(spec.evaluation_set_id, f"The student {student.name}", student=student)
        assert spec.dataset_id is not None
        name = datasets.get(work, spec.dataset_id).name
    return Assessment(spec.evaluation_set_id, f"The head that labelled {name}", head_card=head_output(context)["card"])


def _own_student(context: StepContext) -> Student:
    with context.read() as work:
        return students.get(work, context.step.job_result["student_id"])
