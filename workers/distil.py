"""Step `distil`: dataset with soft labels, the generator's features or both + few labels -> student, as people deploy it."""

from typing import Any

from torch import nn

from models.feature_distillation import FeatureTeacher
from models.heads.fusion import middle_timestep
from models.students.training import StudentTrainConfig, train_student
from workers.artifacts import AnnotatedSet, head_output, load_annotated_set, load_feature_source
from workers.context import Outcome, StepContext
from workers.device import halving
from workers.problems import StepError
from workers.student_files import finish_student
from workers.student_group import train_student_in_group
from workers.student_task import StudentTask, new_student, origin, sharing, student_task, with_batch_size
from workers.training_data import TrainingData, load_training_data

SUMMARY = "A network distilled from a few annotated images by Label Factory."


def run(context: StepContext) -> Outcome:
    """Distil in the spec's mode, fine-tune on the few, store directory and ONNX, record the student."""
    task = student_task(context)
    few = load_annotated_set(context, task.annotation_set_id)
    data = load_training_data(context, task.pools)
    config = task.config
    student, training = halving(
        config.batch_size, lambda size: _train(context, task, few, data, with_batch_size(config, size))
    )
    return finish_student(context, student, few, data, recipe=training, summary=SUMMARY)


def _train(
    context: StepContext, task: StudentTask, few: AnnotatedSet, data: TrainingData, config: StudentTrainConfig
) -> tuple[nn.Module, dict[str, Any]]:
    student = new_student(task, few)
    hooks: dict[str, Any] = {
        "weights": data.weights,
        "teacher": feature_teacher(context, task, data),
        "progress": context.reporter("distilling"),
        "stop": context.stop,
        "checkpoint_path": context.checkpoint.folder / "student",
    }
    if shared := sharing(context, task, config.batch_size):
        training = train_student_in_group(student, data.dataset, few.examples, few.classes, config, **hooks, **shared)
    else:
        hooks["device"] = context.device
        training = train_student(student, data.dataset, few.examples, few.classes, config, **hooks)
    return student, {**training, "batch_size": config.batch_size, **origin(task)}


def feature_teacher(context: StepContext, task: StudentTask, data: TrainingData) -> FeatureTeacher | None:
    """The generator, or the encoder beside one that only draws, at its head's timestep, in modes that distil features."""
    if task.student.mode == "label":
        return None
    generator = load_feature_source(context)
    if generator is None:
        raise StepError(
            "no-generator", "No generator labelled this dataset.", "Choose the mode label for this dataset."
        )
    timesteps = head_output(context)["card"]["tap_timesteps"]
    teacher = FeatureTeacher(generator, middle_timestep(timesteps))
    try:
        teacher.check_size(data.row.image_height, data.row.image_width)
    except ValueError as error:
        raise StepError("image-size", str(error), "Choose the mode label for this dataset.") from error
    return teacher
