"""Step `fit_head`: the few annotated images -> a head on the generator's features."""

import json

from models.heads.training import FittedHead, HeadTrainConfig, fit_head
from service.job_spec import LabelSpec
from workers.artifacts import load_annotated_set, load_generator, pack
from workers.context import Outcome, StepContext


def run(context: StepContext) -> Outcome:
    """Fit, store the head, and keep its card for the report."""
    spec = context.label_spec
    few = load_annotated_set(context, spec.annotation_set_id)
    generator = load_generator(context)
    fitted = fit_head(
        generator,
        few.examples,
        few.classes,
        head_config(spec),
        device=context.device,
        progress=context.reporter("fitting the head"),
        stop=context.stop,
        checkpoint_path=context.checkpoint.folder / "head.safetensors",
    )
    return _stored(context, fitted)


def head_config(spec: LabelSpec) -> HeadTrainConfig:
    """What the user pinned; the rest is the models' own."""
    pinned = spec.head.model_dump(exclude={"kind"}, exclude_none=True)
    return HeadTrainConfig(**pinned, seed=spec.seed)


def _stored(context: StepContext, fitted: FittedHead) -> Outcome:
    folder = context.scratch / "fitted"
    fitted.head.save(folder)
    (folder / "card.json").write_text(json.dumps(fitted.card))
    key = context.key("head.tar")
    pack(context, folder, key)
    return Outcome({"head_key": key, "card": fitted.card})
