"""Step `evaluate`: student, head and few-label baseline, as far as the job has them, on held-out real labels; its report."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from models.contracts import ClassSpec
from models.labelling import LabellerPredictor
from models.metrics.boxes import BoxPredictor
from models.metrics.evaluation import EvaluationResult, Predictor, evaluate
from models.students.card import load_student, write_card
from models.students.tasks import student_predictor
from service import reports, steps, students
from service.tables import Student
from service.unit_of_work import Work
from workers.artifacts import AnnotatedSet, load_annotated_set, load_labeller, unpack
from workers.assessment import Assessment, assessment
from workers.context import Outcome, StepContext
from workers.device import halving, inference_batch
from workers.label_origin import label_origin
from workers.sample_sheets import comparison_sheet
from workers.student_files import fetch_student, store_student
from workers.verdict import reached, verdict

MAX_SHOWN = 8
"""Images on a sheet: the first ones, or half of them the worst and half of them the best."""


@dataclass(frozen=True)
class Measurable:
    """One row of the report to be."""

    name: Literal["student", "head", "baseline"]
    """What it is to the job."""
    title: str
    """What people read."""
    predictor: Predictor | BoxPredictor
    """The network."""


@dataclass(frozen=True)
class Measured:
    """What the held-out images have shown."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """The report's rows."""
    images: list[dict[str, Any]] = field(default_factory=list)
    """`{index, miou}` of the images that the first row's network labels worst and best, worst first."""
    sheet: dict[str, Any] | None = None
    """`{key, images}`: a stored picture and the indices of the images on it, from left to right."""
    filter_curve: dict[str, Any] | None = None
    """What dropping images or pixels that the head is uncertain of is worth (`models.metrics.risk_coverage`)."""


def run(context: StepContext) -> Outcome:
    """Measure, write the report, and put the scores on the card of a student of this job."""
    wanted = assessment(context)
    student = wanted.student
    if student is not None:
        fetch_student(context, student.files, _student_folder(context))
    measured = Measured() if wanted.evaluation_set_id is None else _measured(context, wanted, wanted.evaluation_set_id)
    rows = measured.rows
    content = report(context, wanted, measured)
    own = student is not None and student.job_id == context.step.job_id
    attach = _with_report(context, student, rows) if student is not None and own else None

    def record(work: Work) -> None:
        reports.record(work, context.step.job_id, content, student_id=None if student is None else student.id)
        if attach is not None:
            attach(work)

    scores = {key: {row["name"]: row[key] for row in rows} for key in ("miou", "box_ap")}
    return Outcome({**scores, "verdict": content["verdict"]}, record)


def _student_folder(context: StepContext) -> Path:
    return context.scratch / "student"


def _measured(context: StepContext, wanted: Assessment, evaluation_set_id: str) -> Measured:
    held_out = load_annotated_set(context, evaluation_set_id)
    items = _measurable(context, wanted, held_out)
    _show(context, items[0], held_out)
    scores: dict[str, float] = {}
    results = [_evaluated(context, item, held_out, scores) for item in items]
    rows = [
        {"name": item.name, "title": item.title, **result.to_dict()}
        for item, result in zip(items, results, strict=True)
    ]
    images = [{"index": image.index, "miou": image.miou} for image in results[0].images]
    # Only a head has members that disagree: the others have no curve.
    curves = [result.risk.curve() for result in results if result.risk is not None]
    filter_curve = asdict(curves[0]) if curves and curves[0] is not None else None
    return Measured(rows, images, _extremes(context, items[0], results[0], held_out), filter_curve)


def _measurable(context: StepContext, wanted: Assessment, held_out: AnnotatedSet) -> list[Measurable]:
    """Everything that is to be measured, in the order of the report's rows."""
    found = []
    if wanted.student is not None:
        network = load_student(_student_folder(context))
        predictor = student_predictor(network, held_out.classes, device=context.device)
        found.append(Measurable("student", "Student", predictor))
    if wanted.head_card is not None:
        labeller = load_labeller(context)
        found.append(Measurable("head", labeller.title, LabellerPredictor(labeller)))
    if wanted.baseline_key is not None:
        network = load_student(unpack(context, wanted.baseline_key, context.scratch / "baseline"))
        predictor = student_predictor(network, held_out.classes, device=context.device)
        found.append(Measurable("baseline", "Same student, few labels only", predictor))
    return found


def _show(context: StepContext, item: Measurable, held_out: AnnotatedSet) -> None:
    shown = held_out.examples[:MAX_SHOWN]
    images_BHWC = np.stack([example.image_HWC for example in shown])
    predicted_BHW = _shown(item.predictor, images_BHWC, held_out.classes)
    truth_BHW = np.stack([example.label_HW for example in shown])
    sheet = comparison_sheet(images_BHWC, truth_BHW, predicted_BHW, held_out.label_classes)
    context.show_sample("predictions.png", sheet, f"held-out images, their labels, what the {item.name} says")


def _shown(predictor: Predictor | BoxPredictor, images_BHWC: np.ndarray, classes: list[ClassSpec]) -> np.ndarray:
    """Label maps uint8 BHW to look at: a detector's boxes as outlines."""
    if not isinstance(predictor, BoxPredictor):
        return predictor.predict(images_BHWC).labels_BHW(classes)
    height, width = images_BHWC.shape[1:3]
    return np.stack([boxes.painted(height, width, classes) for boxes in predictor.detect(images_BHWC)])


def _extremes(
    context: StepContext, item: Measurable, result: EvaluationResult, held_out: AnnotatedSet
) -> dict[str, Any] | None:
    """Show the worst and the best images as they were measured, for good: the job's event names the picture."""
    half = MAX_SHOWN // 2
    shown = [*result.images[:half], *result.images[half:][-half:]]
    if not shown:
        return None
    examples = [held_out.examples[image.index] for image in shown]
    sheet = comparison_sheet(
        np.stack([example.image_HWC for example in examples]),
        np.stack([example.label_HW for example in examples]),
        np.stack([image.predicted_HW for image in shown]),
        held_out.label_classes,
    )
    caption = f"from the worst to the best held-out image, their labels, what the {item.name} says"
    key = context.show_sample("extremes.png", sheet, caption)
    return {"key": key, "images": [image.index for image in shown]}


def _evaluated(
    context: StepContext, item: Measurable, held_out: AnnotatedSet, scores: dict[str, float]
) -> EvaluationResult:
    """Measure one row; `scores` collects what the rows have so far, by whose it is, and is shown as progress."""
    height, width = held_out.examples[0].label_HW.shape
    report = context.reporter(item.title, unit="images")

    def progress(done: int, total: int, metrics: Mapping[str, float]) -> None:
        scores.update({f"{item.name}_{metric}": value for metric, value in metrics.items()})
        report(done, total, scores)

    return halving(
        inference_batch(context.device, height, width),
        lambda size: evaluate(
            item.predictor,
            held_out.examples,
            held_out.classes,
            batch_size=size,
            progress=progress,
            stop=context.stop,
        ),
    )


def report(context: StepContext, wanted: Assessment, measured: Measured) -> dict[str, Any]:
    """The report's content: scores, worst and best images, a plain sentence, cross-validation, what every step cost."""
    head = wanted.head_card or {}
    rows = measured.rows
    with context.read() as work:
        cost = [
            {
                "kind": step.kind,
                "index": step.index,
                "seconds": step.seconds,
                "peak_memory_bytes": step.peak_memory_bytes,
            }
            for step in steps.list_of_job(work, context.step.job_id)
            if step.state == "succeeded"
        ]
    return {
        "rows": rows,
        "verdict": reached(wanted.subject, rows[0]) if len(rows) == 1 else verdict(rows, head),
        "num_images": rows[0]["num_images"] if rows else 0,
        "images": measured.images,
        "sheet": measured.sheet,
        "cross_validation": head.get("cross_validation", []),
        "estimate": head.get("estimate"),
        "taps": head.get("taps", []),
        "filter_curve": _filter_curve(context, measured, head),
        "steps": cost,
        "device": str(context.device),
    }


def _filter_curve(context: StepContext, measured: Measured, head: Mapping[str, Any]) -> dict[str, Any] | None:
    """The curve on held-out images, else that of the head's estimate, beside the shares that the job itself dropped."""
    curve = measured.filter_curve or (head.get("estimate") or {}).get("filter_curve")
    if curve is None:
        return None
    dropped = label_origin(context).spec.filter.model_dump()
    return {**curve, "estimated": measured.filter_curve is None, "dropped": dropped}


def _with_report(context: StepContext, student: Student, rows: list[dict[str, Any]]) -> Callable[[Work], None]:
    """Store the student's files again, with the measurements in the README (weights are the same bytes); what to record."""
    folder = _student_folder(context)
    card = {**student.card, "report": {row["title"]: row for row in rows}}
    write_card(folder, {"title": student.name, "classes": student.classes, **card})
    stored = store_student(context, student.id, folder)
    return lambda work: students.attach_report(work, student.id, *stored, card)
