"""Step `fit_head`: the few annotated images -> what labels all others, by the kind that the job names."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from models.contracts import FeatureSource, Progress
from models.heads.ensemble import fit_labeller, split
from models.heads.estimate import estimate
from models.heads.fusion_training import views_per_step
from models.heads.kinds import HEAD_KINDS
from models.heads.tap_blocks import UnknownTapBlocks, own_blocks
from models.heads.tap_probe import TIMESTEPS, probe_taps
from models.labelling import FittedHead
from service.job_spec import LabelSpec
from workers.artifacts import AnnotatedSet, find_sources, load_annotated_set, load_sources, pack
from workers.context import Outcome, StepContext
from workers.device import halving
from workers.problems import StepError
from workers.starting_weights import starting_weights


def run(context: StepContext) -> Outcome:
    """Fit, store the head, and keep its card for the report; where nothing else will measure it, with an estimate."""
    spec = context.label_spec
    few = load_annotated_set(context, spec.annotation_set_id)
    config = head_config(spec, few)
    weights = starting_weights(context, spec.student) if spec.head.kind == "student" else None
    if weights is not None:
        config = replace(config, weights=weights.folder)
    return _stored(
        context, halving(config.batch_size, lambda size: _fit(context, few, replace(config, batch_size=size)))
    )


def _fit(context: StepContext, few: AnnotatedSet, config: Any) -> FittedHead:
    spec = context.label_spec
    kind, sources = HEAD_KINDS[spec.head.kind], load_sources(context)
    _check_blocks(sources, spec.head.tap_blocks)
    fitted = fit_labeller(
        kind,
        sources,
        few.examples,
        few.classes,
        config,
        device=context.device,
        progress=context.reporter("fitting the head"),
        stop=context.stop,
        checkpoint_path=context.checkpoint.folder / "head.safetensors",
    )
    fitted.card["taps"] = _taps(context, sources, few, fitted.card)
    if spec.evaluation_set_id is None and not fitted.card["cross_validation"]:
        fitted.card["estimate"] = estimate(
            kind,
            sources,
            few.examples,
            few.classes,
            config,
            device=context.device,
            progress=_after(fitted.card["steps"], context.reporter("estimating how good the head is")),
            stop=context.stop,
        )
    return fitted


def _check_blocks(sources: Sequence[FeatureSource], wanted: Sequence[str] | None) -> None:
    """Only the networks themselves know the names of their taps. Raises StepError."""
    try:
        own_blocks(split(sources)[1], wanted)
    except UnknownTapBlocks as error:
        hint = "Submit the job again with head.tap_blocks of those names, or without it to read them all."
        raise StepError("unknown-tap-blocks", str(error), hint) from error


def _taps(
    context: StepContext, sources: Sequence[FeatureSource], few: AnnotatedSet, card: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What every tap of every source knows alone, and which of them the source's head reads."""
    tables = []
    cards = [card, *card.get("beside", [])]  # of students, which read no source, there is one all the same
    rows = [row for row in find_sources(context) if row.can_encode]
    for row, source, own in zip(rows, split(sources)[1], cards, strict=False):
        read = {"timesteps": own["tap_timesteps"], "blocks": own["tap_blocks"]}
        timesteps = [*TIMESTEPS, *read["timesteps"]]
        seed = context.label_spec.seed
        table = probe_taps(source, few.examples, few.classes, timesteps, seed=seed, stop=context.stop)
        if table is not None:
            tables.append({"source": row.name, **table, "read": read})
    return tables


def _after(steps: int, progress: Progress) -> Progress:
    """Progress that goes on where the fit of so many steps ended."""

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        progress(steps + done, steps + total, metrics)

    return report


def head_config(spec: LabelSpec, few: AnnotatedSet) -> Any:
    """What the user pinned, as the kind's own config; the rest is the models' own."""
    pinned = spec.head.model_dump(exclude={"kind"}, exclude_none=True)
    if spec.head.kind == "fusion":
        height, width = few.examples[0].label_HW.shape
        pinned.setdefault("batch_size", views_per_step(height, width))
    if spec.head.kind == "student":
        pinned |= spec.student.model_dump(include={"architecture", "first_stride"})
    if "tap_blocks" in pinned:
        pinned["tap_blocks"] = tuple(pinned["tap_blocks"])
    return HEAD_KINDS[spec.head.kind].config(**pinned, seed=spec.seed)


def _stored(context: StepContext, fitted: FittedHead) -> Outcome:
    folder = context.scratch / "fitted"
    fitted.labeller.save(folder)
    (folder / "card.json").write_text(json.dumps(fitted.card))
    key = context.key("head.tar")
    pack(context, folder, key)
    return Outcome({"head_key": key, "card": fitted.card})
