"""A student's directory <-> object storage: every file on its own, and a zip of all; and the end of its training."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from models.students.build import num_parameters
from models.students.card import save_student
from models.students.onnx_export import export_onnx
from service import jobs, object_keys, students
from service.ids import new_id
from service.students import StudentFile
from service.unit_of_work import Work
from workers.artifacts import AnnotatedSet, zip_directory
from workers.context import Outcome, StepContext
from workers.lineage import lineage
from workers.student_task import student_task
from workers.training_data import TrainingData

ARCHIVE = "student.zip"
MAX_PARITY_IMAGES = 8


def finish_student(
    context: StepContext,
    student: nn.Module,
    few: AnnotatedSet,
    data: TrainingData | None = None,
    *,
    recipe: dict[str, Any],
    summary: str,
) -> Outcome:
    """Write a trained network with its card and ONNX form, store it, and record the job's student.

    `data` is the dataset it learned from beside the few; `recipe` says how; `summary` is the card's first sentence.
    """
    context.say("writing the student")
    with context.read() as work:
        name = jobs.get(work, context.step.job_id).name
    architecture = student_task(context).student.architecture
    card = {"summary": summary, "recipe": {"architecture": architecture, **recipe}, **lineage(context)}
    folder = context.scratch / "student"
    save_student(student, folder, {"title": name, "classes": few.classes, **card})
    card["onnx"] = export_onnx(student, folder / "model.onnx", _parity_images(few, data))
    student_id = new_id("stu")
    files, archive_key, num_bytes = store_student(context, student_id, folder)
    new = students.NewStudent(
        id=student_id,
        dataset_id=None if data is None else data.row.id,
        name=name,
        architecture=architecture,
        num_parameters=num_parameters(student),
        classes=[item.to_json() for item in few.label_classes],
        files=files,
        archive_key=archive_key,
        num_bytes=num_bytes,
        card=card,
    )

    def record(work: Work) -> None:
        students.record(work, context.step.job_id, new)

    return Outcome({"student_id": student_id, "onnx": card["onnx"], "seconds": recipe["seconds"]}, record)


def _parity_images(few: AnnotatedSet, data: TrainingData | None) -> np.ndarray:
    """Real images, and some of the dataset's, on which torch and ONNX must agree; at least two, which the export traces."""
    real = [example.image_HWC for example in few.examples[:MAX_PARITY_IMAGES]]
    images_BHWC = np.stack([*real, *(() if data is None else data.dataset.images(MAX_PARITY_IMAGES))])
    return images_BHWC if len(images_BHWC) > 1 else images_BHWC.repeat(2, 0)


def store_student(context: StepContext, student_id: str, folder: Path) -> tuple[list[StudentFile], str, int]:
    """Store the files of a folder and their zip; returns the files, the zip's key, and the bytes of all."""
    token = context.step.token
    files = []
    for path in sorted(folder.iterdir()):
        key = object_keys.student_file(student_id, token, path.name)
        stored = context.put_file(key, path)
        files.append(StudentFile(path.name, key, stored.num_bytes, stored.sha256))
    archive_key = object_keys.student_file(student_id, token, ARCHIVE)
    archive = context.put_file(archive_key, zip_directory(folder, context.scratch / ARCHIVE))
    return files, archive_key, sum(file.num_bytes for file in files) + archive.num_bytes


def fetch_student(context: StepContext, files: list[dict[str, str]], folder: Path) -> Path:
    """A recorded student's files as a folder."""
    for file in files:
        context.get_file(file["key"], folder / file["name"])
    return folder
