"""Step kind -> what runs it."""

from workers import (
    distil,
    evaluate,
    export_dataset,
    fit_head,
    label_shard,
    seal_dataset,
    train_baseline,
    train_generator,
    train_student,
)
from workers.runtime import Handler

HANDLERS: dict[str, Handler] = {
    "fit_head": fit_head.run,
    "label_shard": label_shard.run,
    "seal_dataset": seal_dataset.run,
    "export_dataset": export_dataset.run,
    "distil": distil.run,
    "train_baseline": train_baseline.run,
    "evaluate": evaluate.run,
    "train_generator": train_generator.run,
    "train_student": train_student.run,
}
