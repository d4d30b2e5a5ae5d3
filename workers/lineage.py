"""Where things come from: the facts that cards of datasets and students carry."""

import platform
from importlib.metadata import version
from typing import Any

from service import annotation_sets, generators
from service.job_spec import LabelSpec, TrainGeneratorSpec, dump
from service.tables import Generator
from workers.artifacts import step_output
from workers.context import StepContext

PACKAGES = ("label-factory", "torch", "diffusers", "transformers", "numpy")


def lineage(context: StepContext) -> dict[str, Any]:
    """Job, spec, annotation set and versions; and generator and head where labels of theirs were learned from."""
    spec = context.step.spec
    assert not isinstance(spec, TrainGeneratorSpec)
    with context.read() as work:
        few = annotation_sets.get(work, spec.annotation_set_id)
    return {
        "job_id": context.step.job_id,
        "spec": dump(spec),
        "annotation_set": {"id": few.id, "name": few.name, "sha256": few.sha256, "num_images": few.num_images},
        **(_labelled_by(context, spec) if isinstance(spec, LabelSpec) else {"learned_from": "the few labels alone"}),
        "versions": versions(),
    }


def _labelled_by(context: StepContext, spec: LabelSpec) -> dict[str, Any]:
    head = {name: value for name, value in step_output(context, "fit_head")["card"].items() if name != "curves"}
    if spec.generator is None:
        return {"generator": None, "head": head}
    with context.read() as work:
        generator = generators.get(work, spec.generator)
    return {"generator": known_generator(generator), "head": head}


def known_generator(row: Generator) -> dict[str, Any]:
    """A generator as cards name it."""
    return {"id": row.id, "name": row.name, "digest": row.digest, "licence": row.card.get("licence")}


def versions() -> dict[str, str]:
    """What computed."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
