"""What a report is about: which networks a job measures on which images, and how its sentence begins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service import annotation_sets, students
from service.job_spec import LabelSpec, TrainStudentSpec
from service.tables import Student
from workers.artifacts import step_output
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
    if isinstance(spec, LabelSpec):
        return _of_label(context, spec)
    assert isinstance(spec, TrainStudentSpec)
    return _of_train_student(context, spec)


def _of_label(context: StepContext, spec: LabelSpec) -> Assessment:
    student = _own_student(context)
    return Assessment(
        spec.evaluation_set_id,
        "The student",
        student=student,
        baseline_key=None if spec.evaluation_set_id is None else _baseline_key(context, student),
        head_card=step_output(context, "fit_head")["card"],
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


def _own_student(context: StepContext) -> Student:
    with context.read() as work:
        return students.get(work, context.step.job_result["student_id"])
