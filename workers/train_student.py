"""Step `train_student`: the few labels alone -> student; what users have without the factory, as people deploy it."""

from workers.artifacts import load_annotated_set
from workers.context import Outcome, StepContext
from workers.student_files import finish_student
from workers.student_task import student_task
from workers.train_baseline import train_on_few

SUMMARY = "A network trained on a few annotated images alone by Label Factory."


def run(context: StepContext) -> Outcome:
    """Train with the whole budget, store directory and ONNX, record the student."""
    task = student_task(context)
    few = load_annotated_set(context, task.annotation_set_id)
    student, training = train_on_few(context, task, few)
    return finish_student(context, student, few, recipe=training, summary=SUMMARY)
