"""Step `train_baseline`: the same student on the few labels alone, with the whole budget; what the factory must beat."""

from typing import Any

from torch import nn

from models.students.card import save_student
from models.students.training import StudentTrainConfig, train_baseline
from workers.artifacts import AnnotatedSet, load_annotated_set, pack
from workers.context import Outcome, StepContext
from workers.device import halving
from workers.distil import new_student, with_batch_size
from workers.training_data import student_config


def run(context: StepContext) -> Outcome:
    """Train and keep the network for the report."""
    spec = context.label_spec
    config = student_config(spec)
    few = load_annotated_set(context, spec.annotation_set_id)
    baseline, training = halving(config.batch_size, lambda size: _train(context, few, config, size))
    folder = context.scratch / "baseline"
    save_student(baseline, folder, {"title": "Few-label baseline", "classes": few.classes, "recipe": training})
    key = context.key("baseline.tar")
    pack(context, folder, key)
    return Outcome({"baseline_key": key, "training": training})


def _train(
    context: StepContext, few: AnnotatedSet, config: StudentTrainConfig, batch_size: int
) -> tuple[nn.Module, dict[str, Any]]:
    baseline = new_student(context, few, config)
    training = train_baseline(
        baseline,
        few.examples,
        few.classes,
        with_batch_size(config, batch_size),
        device=context.device,
        progress=context.reporter("training on the few labels alone"),
        stop=context.stop,
        checkpoint_path=context.checkpoint.folder / "baseline.safetensors",
    )
    return baseline, {**training, "batch_size": batch_size}
