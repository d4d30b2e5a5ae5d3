"""Where things come from: the facts that cards of datasets and students carry."""

import platform
from importlib.metadata import version
from typing import Any

from service import annotation_sets, datasets
from service.job_spec import DistillSpec, EvaluateSpec, ExportSpec, TrainGeneratorSpec, TrainStudentSpec, dump
from service.tables import Generator
from workers.artifacts import find_sources, head_output
from workers.context import StepContext
from workers.label_origin import label_origin

REPORTED = frozenset({"curves", "taps"})
"""What of a head's card stands in the report, not on every card."""
PACKAGES = ("label-factory", "torch", "diffusers", "transformers", "numpy")


def lineage(context: StepContext) -> dict[str, Any]:
    """Job, spec, annotation set and versions; and the dataset, generator and head whose labels were learned."""
    spec = context.step.spec
    assert not isinstance(spec, TrainGeneratorSpec | EvaluateSpec | ExportSpec)
    facts = {
        "job_id": context.step.job_id,
        "spec": dump(spec),
        "annotation_set": _annotation_set(context, spec.annotation_set_id or ""),
    }
    if isinstance(spec, TrainStudentSpec):
        facts["learned_from"] = "the few labels alone"
    else:
        if isinstance(spec, DistillSpec):
            facts["dataset"] = _dataset(context, spec)
        facts |= _labelled_by(context)
    return {**facts, "versions": versions()}


def _annotation_set(context: StepContext, set_id: str) -> dict[str, Any]:
    with context.read() as work:
        few = annotation_sets.get(work, set_id, deleted=True)
    return {"id": few.id, "name": few.name, "sha256": few.sha256, "num_images": few.num_images}


def _dataset(context: StepContext, spec: DistillSpec) -> dict[str, Any]:
    origin = label_origin(context)
    with context.read() as work:
        row = datasets.get(work, spec.dataset_id)
    return {
        "id": row.id,
        "name": row.name,
        "job_id": origin.job_id,
        "pools": spec.pools or origin.spec.pools,
        "annotation_set": _annotation_set(context, origin.spec.annotation_set_id),
    }


def _labelled_by(context: StepContext) -> dict[str, Any]:
    head = _as_read(head_output(context)["card"])
    names = ("generator", "encoder")
    known = {name: known_generator(row) for name, row in zip(names, find_sources(context), strict=False)}
    return {"generator": None, **known, "head": head}


def _as_read(card: dict[str, Any]) -> dict[str, Any]:
    """A head's card, and those of the heads beside it, without what the report shows."""
    short = {name: value for name, value in card.items() if name not in REPORTED}
    if "beside" in card:
        short["beside"] = [_as_read(other) for other in card["beside"]]
    return short


def known_generator(row: Generator) -> dict[str, Any]:
    """A generator as cards name it."""
    return {"id": row.id, "name": row.name, "digest": row.digest, "licence": row.card.get("licence")}


def versions() -> dict[str, str]:
    """What computed."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
