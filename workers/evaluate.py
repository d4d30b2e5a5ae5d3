"""Step `evaluate`: student, head and few-label baseline on held-out real labels; the job's report."""

from pathlib import Path
from typing import Any

import numpy as np

from models.labelling import LabellerPredictor
from models.metrics.evaluation import EvaluationResult, Predictor, evaluate
from models.students.card import load_student, render_card
from models.students.predict import StudentPredictor
from service import reports, steps, students
from service.students import StudentFile
from service.tables import Student
from service.unit_of_work import Work
from workers.artifacts import AnnotatedSet, load_annotated_set, load_labeller, step_output, unpack
from workers.context import Outcome, StepContext
from workers.device import halving, inference_batch
from workers.sample_sheets import comparison_sheet
from workers.student_files import fetch_student, store_student
from workers.verdict import verdict

MAX_SHOWN = 8
TITLES = {
    "student": "Student",
    "baseline": "Same student, few labels only",
}


def run(context: StepContext) -> Outcome:
    """Measure, write the report, and put its scores on the student's card."""
    with context.read() as work:
        student = students.get(work, context.step.job_result["student_id"])
    folder = fetch_student(context, student.files, context.scratch / "student")
    rows = _measured(context, folder) if context.label_spec.evaluation_set_id is not None else []
    content = report(context, rows)
    card = {**student.card, "report": {row["title"]: row for row in rows}}
    files, archive_key = _with_report(context, student, folder, card)

    def record(work: Work) -> None:
        reports.record(work, context.step.job_id, content, student_id=student.id)
        students.attach_report(work, student.id, files, archive_key, card)

    scores = {row["name"]: row["miou"] for row in rows}
    return Outcome({"miou": scores, "verdict": content["verdict"]}, record)


def _measured(context: StepContext, student_folder: Path) -> list[dict[str, Any]]:
    set_id = context.label_spec.evaluation_set_id
    assert set_id is not None
    held_out = load_annotated_set(context, set_id)
    baseline_key = step_output(context, "train_baseline")["baseline_key"]
    baseline_folder = unpack(context, baseline_key, context.scratch / "baseline")
    labeller = load_labeller(context)
    titles = {**TITLES, "head": labeller.title}
    predictors: dict[str, Predictor] = {
        "student": StudentPredictor(load_student(student_folder), held_out.classes, device=context.device),
        "head": LabellerPredictor(labeller),
        "baseline": StudentPredictor(load_student(baseline_folder), held_out.classes, device=context.device),
    }
    _show(context, predictors["student"], held_out)
    rows = []
    for name, predictor in predictors.items():
        result = _evaluated(context, predictor, held_out, titles[name])
        rows.append({"name": name, "title": titles[name], **result.to_dict()})
    return rows


def _show(context: StepContext, student: Predictor, held_out: AnnotatedSet) -> None:
    shown = held_out.examples[:MAX_SHOWN]
    images_BHWC = np.stack([example.image_HWC for example in shown])
    predicted_BHW = student.predict(images_BHWC).labels_BHW(held_out.classes)
    truth_BHW = np.stack([example.label_HW for example in shown])
    sheet = comparison_sheet(images_BHWC, truth_BHW, predicted_BHW, held_out.label_classes)
    context.show_sample("predictions.png", sheet, "held-out images, their labels, what the student says")


def _evaluated(context: StepContext, predictor: Predictor, held_out: AnnotatedSet, title: str) -> EvaluationResult:
    height, width = held_out.examples[0].label_HW.shape
    return halving(
        inference_batch(context.device, height, width),
        lambda size: evaluate(
            predictor,
            held_out.examples,
            held_out.classes,
            batch_size=size,
            progress=context.reporter(title, unit="images"),
            stop=context.stop,
        ),
    )


def report(context: StepContext, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The report's content: scores, a plain sentence, cross-validation, and what every step cost."""
    head = step_output(context, "fit_head")["card"]
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
        "verdict": verdict(rows, head),
        "num_images": rows[0]["num_images"] if rows else 0,
        "cross_validation": head.get("cross_validation", []),
        "steps": cost,
        "device": str(context.device),
    }


def _with_report(
    context: StepContext, student: Student, folder: Path, card: dict[str, Any]
) -> tuple[list[StudentFile], str]:
    """The student's files again, with the measurements in the README; weights are the same bytes."""
    shown = {"title": student.name, "classes": student.classes, **card}
    (folder / "README.md").write_text(render_card(shown))
    return store_student(context, student.id, folder)
