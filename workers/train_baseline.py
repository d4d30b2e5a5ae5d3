"""Step `train_baseline`: the same student on the few labels alone, with the whole budget; what the factory must beat."""

from typing import Any

from torch import nn

from models.students.card import save_student
from models.students.training import StudentTrainConfig, train_baseline
from workers.artifacts import AnnotatedSet, load_annotated_set, pack
from workers.context import Outcome, StepContext
from workers.device import halving
from workers.student_group import train_student_in_group
from workers.student_task import StudentTask, new_student, origin, sharing, student_task, with_batch_size


def run(context: StepContext) -> Outcome:
    """Train and keep the network for the report."""
    task = student_task(context)
    few = load_annotated_set(context, task.annotation_set_id)
    baseline, training = train_on_few(context, task, few)
    folder = context.scratch / "baseline"
    save_student(baseline, folder, {"title": "Few-label baseline", "classes": few.classes, "recipe": training})
    key = context.key("baseline.tar")
    pack(context, folder, key)
    return Outcome({"baseline_key": key, "training": training})


def train_on_few(context: StepContext, task: StudentTask, few: AnnotatedSet) -> tuple[nn.Module, dict[str, Any]]:
    """The task's network, trained on the few labels alone, and how it went."""
    return halving(task.config.batch_size, lambda size: _train(context, task, few, with_batch_size(task.config, size)))


def _train(
    context: StepContext, task: StudentTask, few: AnnotatedSet, config: StudentTrainConfig
) -> tuple[nn.Module, dict[str, Any]]:
    network = new_student(task, few)
    hooks: dict[str, Any] = {
        "progress": context.reporter("training on the few labels alone"),
        "stop": context.stop,
        "checkpoint_path": context.checkpoint.folder / "baseline.safetensors",
    }
    if shared := sharing(context, task, config.batch_size):
        training = train_student_in_group(network, None, few.examples, few.classes, config, **hooks, **shared)
    else:
        training = train_baseline(network, few.examples, few.classes, config, device=context.device, **hooks)
    return network, {**training, "batch_size": config.batch_size, **origin(task)}
