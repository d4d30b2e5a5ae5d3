"""Step `distil`: dataset with soft labels, the generator's features or both + few labels -> student, as people deploy it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models.feature_distillation import FeatureTeacher
from models.heads.fusion import middle_timestep
from models.students.build import build_student, num_parameters
from models.students.card import save_student
from models.students.onnx_export import export_onnx
from models.students.training import StudentTrainConfig, train_student
from service import students
from service.ids import new_id
from service.unit_of_work import Work
from workers.artifacts import AnnotatedSet, load_annotated_set, load_generator, step_output
from workers.context import Outcome, StepContext
from workers.device import halving
from workers.lineage import lineage
from workers.problems import StepError
from workers.student_files import store_student
from workers.training_data import TrainingData, load_training_data, student_config

MAX_PARITY_IMAGES = 8


def run(context: StepContext) -> Outcome:
    """Distil in the spec's mode, fine-tune on the few, store directory and ONNX, record the student."""
    spec = context.label_spec
    config = student_config(spec)
    few = load_annotated_set(context, spec.annotation_set_id)
    data = load_training_data(context)
    student, training = halving(config.batch_size, lambda size: _train(context, few, data, config, size))
    context.say("writing the student")
    card = {"recipe": {"architecture": spec.student.architecture, **training}, **lineage(context)}
    folder = context.scratch / "student"
    card["onnx"] = _write(student, folder, few, data, card)
    return _stored(context, student, data, folder, card)


def _train(
    context: StepContext, few: AnnotatedSet, data: TrainingData, config: StudentTrainConfig, batch_size: int
) -> tuple[nn.Module, dict[str, Any]]:
    student = new_student(context, few, config)
    training = train_student(
        student,
        data.dataset,
        few.examples,
        few.classes,
        with_batch_size(config, batch_size),
        weights=data.weights,
        teacher=feature_teacher(context, data),
        device=context.device,
        progress=context.reporter("distilling"),
        stop=context.stop,
        checkpoint_path=context.checkpoint.folder / "student",
    )
    return student, {**training, "batch_size": batch_size}


def new_student(context: StepContext, few: AnnotatedSet, config: StudentTrainConfig) -> nn.Module:
    """The untrained network, the same for student and baseline."""
    height, width = few.examples[0].label_HW.shape
    spec = context.label_spec.student
    return build_student(
        spec.architecture, few.classes, (height, width), first_stride=spec.first_stride, seed=config.seed
    )


def feature_teacher(context: StepContext, data: TrainingData) -> FeatureTeacher | None:
    """The generator at the timestep of its head, in the modes that distil features."""
    if context.label_spec.student.mode == "label":
        return None
    timesteps = step_output(context, "fit_head")["card"]["tap_timesteps"]
    teacher = FeatureTeacher(load_generator(context), middle_timestep(timesteps))
    try:
        teacher.check_size(data.row.image_height, data.row.image_width)
    except ValueError as error:
        raise StepError("image-size", str(error), "Choose the mode label for this dataset.") from error
    return teacher


def with_batch_size(config: StudentTrainConfig, batch_size: int) -> StudentTrainConfig:
    """The config for a machine on which only so many images fit."""
    return config if config.batch_size == batch_size else replace(config, batch_size=batch_size)


def _write(
    student: nn.Module, folder: Path, few: AnnotatedSet, data: TrainingData, card: dict[str, Any]
) -> dict[str, Any]:
    save_student(student, folder, {"title": data.row.name, "classes": few.classes, **card})
    real = [example.image_HWC for example in few.examples[:MAX_PARITY_IMAGES]]
    images_BHWC = np.stack([*real, *data.dataset.images(MAX_PARITY_IMAGES)])
    # The export traces batches of two.
    return export_onnx(
        student, folder / "model.onnx", images_BHWC if len(images_BHWC) > 1 else images_BHWC.repeat(2, 0)
    )


def _stored(
    context: StepContext, student: nn.Module, data: TrainingData, folder: Path, card: dict[str, Any]
) -> Outcome:
    student_id = new_id("stu")
    files, archive_key = store_student(context, student_id, folder)
    new = students.NewStudent(
        id=student_id,
        dataset_id=data.row.id,
        name=data.row.name,
        architecture=context.label_spec.student.architecture,
        num_parameters=num_parameters(student),
        classes=data.row.classes,
        files=files,
        archive_key=archive_key,
        card=card,
    )

    def record(work: Work) -> None:
        students.record(work, context.step.job_id, new)

    return Outcome({"student_id": student_id, "onnx": card["onnx"], "seconds": card["recipe"]["seconds"]}, record)
