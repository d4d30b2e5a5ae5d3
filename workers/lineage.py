"""Where things come from: the facts that cards of datasets and students carry."""

import platform
from importlib.metadata import version
from typing import Any

from service import annotation_sets, generators
from service.job_spec import dump
from workers.artifacts import step_output
from workers.context import StepContext

PACKAGES = ("label-factory", "torch", "diffusers", "transformers", "numpy")


def lineage(context: StepContext) -> dict[str, Any]:
    """Generator, annotation set, head, spec and versions of a `label` job."""
    spec = context.label_spec
    with context.read() as work:
        generator = generators.get(work, spec.generator)
        few = annotation_sets.get(work, spec.annotation_set_id)
    head = {name: value for name, value in step_output(context, "fit_head")["card"].items() if name != "curves"}
    return {
        "job_id": context.step.job_id,
        "spec": dump(spec),
        "generator": {
            "id": generator.id,
            "name": generator.name,
            "digest": generator.digest,
            "licence": generator.card.get("licence"),
        },
        "annotation_set": {"id": few.id, "name": few.name, "sha256": few.sha256, "num_images": few.num_images},
        "head": head,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """What computed."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
