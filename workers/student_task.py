"""What the training of a student needs, whichever kind of job asks for it."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from models.generators.directory import UnsafeDirectory
from models.registry import STUDENTS
from models.students.build import build_student
from models.students.training import StudentTrainConfig
from models.students.weights import UnfitWeights
from service.job_spec import DistillSpec, LabelSpec, TrainStudentSpec
from service.spec_parts import PoolKind, StudentSpec
from workers.artifacts import AnnotatedSet
from workers.context import StepContext
from workers.problems import StepError
from workers.starting_weights import StartingWeights, starting_weights
from workers.training_data import POOLS

LEAST_EACH = 8
"""Images of a batch that each of several processes must have: few fill no accelerator (docs/decisions/0007)."""


@dataclass(frozen=True)
class StudentTask:
    """A student to be trained."""

    annotation_set_id: str
    """The few annotated images."""
    student: StudentSpec
    """Network and budget."""
    seed: int
    """Seed of weights, batches and augmentation."""
    weights: StartingWeights | None = None
    """What the backbone starts from, student's and baseline's alike; None: afresh."""
    pools: tuple[PoolKind, ...] = POOLS
    """Images of the dataset to learn from, where there is one."""

    @property
    def config(self) -> StudentTrainConfig:
        """What the user pinned; the rest is the models' own. Student and baseline share it."""
        pinned = self.student.model_dump(exclude={"architecture", "first_stride", "weights"}, exclude_none=True)
        return StudentTrainConfig(**pinned, seed=self.seed)


def student_task(context: StepContext) -> StudentTask:
    """The student that this step's job asks for."""
    spec = context.step.spec
    assert isinstance(spec, LabelSpec | TrainStudentSpec | DistillSpec)
    assert spec.annotation_set_id is not None, "filled in when the job was made"
    pools = spec.pools if isinstance(spec, DistillSpec) else None
    return StudentTask(
        spec.annotation_set_id,
        spec.student,
        spec.seed,
        weights=starting_weights(context, spec.student),
        pools=tuple(pools or POOLS),
    )


def new_student(task: StudentTask, few: AnnotatedSet) -> nn.Module:
    """The untrained network, the same for student and baseline. Raises StepError for weights that do not fit."""
    height, width = few.examples[0].label_HW.shape
    try:
        return build_student(
            task.student.architecture,
            few.classes,
            (height, width),
            first_stride=task.student.first_stride,
            weights=None if task.weights is None else task.weights.folder,
            seed=task.seed,
        )
    except (UnfitWeights, UnsafeDirectory) as error:
        raise StepError("unfit-weights", str(error), "Name weights of the student's architecture.") from error


def origin(task: StudentTask) -> dict[str, Any]:
    """What a recipe says of the weights that were started from."""
    return {} if task.weights is None else {"weights": task.weights.origin}


def sharing(context: StepContext, task: StudentTask, batch_size: int) -> dict[str, Any]:
    """What a training in several processes is given; nothing for networks that find objects, which one process trains."""
    if STUDENTS[task.student.architecture].task != "semantic":
        return {}
    return context.sharing(batch_size, least_each=LEAST_EACH)


def with_batch_size(config: StudentTrainConfig, batch_size: int) -> StudentTrainConfig:
    """The config for a machine on which only so many images fit."""
    return config if config.batch_size == batch_size else replace(config, batch_size=batch_size)
