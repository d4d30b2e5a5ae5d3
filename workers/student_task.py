"""What the training of a student needs, whichever kind of job asks for it."""

from dataclasses import dataclass, replace

from torch import nn

from models.students.build import build_student
from models.students.training import StudentTrainConfig
from service.job_spec import LabelSpec, StudentSpec, TrainStudentSpec
from workers.artifacts import AnnotatedSet
from workers.context import StepContext


@dataclass(frozen=True)
class StudentTask:
    """A student to be trained."""

    annotation_set_id: str
    """The few annotated images."""
    student: StudentSpec
    """Network and budget."""
    seed: int
    """Seed of weights, batches and augmentation."""

    @property
    def config(self) -> StudentTrainConfig:
        """What the user pinned; the rest is the models' own. Student and baseline share it."""
        pinned = self.student.model_dump(exclude={"architecture", "first_stride"}, exclude_none=True)
        return StudentTrainConfig(**pinned, seed=self.seed)


def student_task(context: StepContext) -> StudentTask:
    """The student that this step's job asks for."""
    spec = context.step.spec
    assert isinstance(spec, LabelSpec | TrainStudentSpec)
    return StudentTask(spec.annotation_set_id, spec.student, spec.seed)


def new_student(task: StudentTask, few: AnnotatedSet) -> nn.Module:
    """The untrained network, the same for student and baseline."""
    height, width = few.examples[0].label_HW.shape
    network = task.student
    return build_student(
        network.architecture, few.classes, (height, width), first_stride=network.first_stride, seed=task.seed
    )


def with_batch_size(config: StudentTrainConfig, batch_size: int) -> StudentTrainConfig:
    """The config for a machine on which only so many images fit."""
    return config if config.batch_size == batch_size else replace(config, batch_size=batch_size)
