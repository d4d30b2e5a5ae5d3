"""The plan of a job as pure functions: which steps come next, and how the job ends.

Image i of a pool (counted from 0 within the pool) always has seed `params["seed"] + i`, whatever the shard size and
whoever runs the shard: a shard run twice gives the same bytes on the same machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from service.errors import UnreadableSpec
from service.job_spec import DistillSpec, EvaluateSpec, ExportSpec, JobSpec, LabelSpec, TrainStudentSpec, parse

StepKind = Literal[
    "fit_head",
    "label_shard",
    "seal_dataset",
    "export_dataset",
    "distil",
    "train_baseline",
    "evaluate",
    "train_generator",
    "train_student",
]
Outcome = Literal["succeeded", "failed", "cancelled"]
CPU_KINDS = frozenset({"seal_dataset", "export_dataset"})
PRIORITIES: dict[str, int] = {
    "evaluate": 40,
    "distil": 30,
    "seal_dataset": 20,
    "export_dataset": 20,
    "label_shard": 10,
}
UNFINISHED = frozenset({"ready", "running"})
ENDED = frozenset({"succeeded", "failed", "cancelled"})
"""States in which a job, or a step, has come to its end."""
GOING_ON = frozenset({"queued", "running", "cancelling"})
"""All other states of a job."""


@dataclass(frozen=True)
class PlanFacts:
    """What the plan must know besides the spec; all of it is fixed when the job is made."""

    shard_size: int
    """Images per shard."""
    num_pool_images: int = 0
    """Images in the job's image pool."""


@dataclass(frozen=True)
class StepView:
    """What the plan needs to know of the steps that exist: that there are some of this kind in this state."""

    kind: str
    """What they do."""
    state: str
    """`ready`, `running`, `succeeded`, `failed` or `cancelled`."""


@dataclass(frozen=True)
class NewStep:
    """A step to be made."""

    kind: StepKind
    """What it does."""
    index: int = 0
    """Which of its kind; (job, kind, index) is unique."""
    params: dict[str, Any] = field(default_factory=dict)
    """What its handler needs besides the spec and earlier outputs."""

    @property
    def queue(self) -> Literal["gpu", "cpu"]:
        """Who can run it."""
        return "cpu" if self.kind in CPU_KINDS else "gpu"

    @property
    def priority(self) -> int:
        """Higher is claimed first: a job that is nearly done goes before one that has just begun."""
        return PRIORITIES.get(self.kind, 0)


def next_steps(spec: JobSpec, steps: Sequence[StepView], facts: PlanFacts) -> list[NewStep]:
    """Steps that can begin now and do not exist yet; asking again gives the same answer."""
    existing = {step.kind for step in steps}
    unfinished = {step.kind for step in steps if step.state != "succeeded"}
    new: list[NewStep] = []
    for kind, needs in stages(spec).items():
        if kind not in existing and all(need in existing and need not in unfinished for need in needs):
            new += _steps_of(kind, spec, facts)
    return new


def stopped_outcome(steps: Sequence[StepView], *, cancelling: bool) -> Outcome | None:
    """How a job ends that is cancelled or has a failed step, whatever was asked; None while a cancelled one still runs."""
    if not cancelling:
        return "failed"
    return None if any(step.state in UNFINISHED for step in steps) else "cancelled"


def is_complete(spec: JobSpec, steps: Sequence[StepView]) -> bool:
    """Whether all steps that the job is to have in the end are there and have succeeded."""
    return set(stages(spec)) == {step.kind for step in steps} and all(step.state == "succeeded" for step in steps)


def stages(spec: JobSpec) -> dict[StepKind, tuple[StepKind, ...]]:
    """Every kind of step this job has, in order, with the kinds that must be wholly done before it."""
    if isinstance(spec, LabelSpec):
        return _label_stages(spec)
    if isinstance(spec, TrainStudentSpec):
        return _measured("train_student", spec.evaluation_set_id)
    if isinstance(spec, DistillSpec):
        return _measured("distil", spec.evaluation_set_id)
    if isinstance(spec, EvaluateSpec):
        return {"evaluate": ()}
    if isinstance(spec, ExportSpec):
        return {"export_dataset": ()}
    return {"train_generator": ()}


def known_stages(document: Mapping[str, Any]) -> list[StepKind]:
    """The kinds of step of a stored job, in order; none of one that only another release can read."""
    with suppress(UnreadableSpec):
        return list(stages(parse(document)))
    return []


def _measured(kind: StepKind, evaluation_set_id: str | None) -> dict[StepKind, tuple[StepKind, ...]]:
    """One step, and the report where there is something to measure on."""
    return {kind: ()} if evaluation_set_id is None else {kind: (), "evaluate": (kind,)}


def _label_stages(spec: LabelSpec) -> dict[StepKind, tuple[StepKind, ...]]:
    plan: dict[StepKind, tuple[StepKind, ...]] = {
        "fit_head": (),
        "label_shard": ("fit_head",),
        "seal_dataset": ("label_shard",),
        "export_dataset": ("seal_dataset",),
    }
    if spec.stop_after == "dataset":
        return plan
    plan["distil"] = ("seal_dataset",)
    if spec.evaluation_set_id is None:
        plan["evaluate"] = ("distil",)
    else:
        plan["train_baseline"] = ()  # it needs the few labels alone: a second worker does it meanwhile
        plan["evaluate"] = ("distil", "train_baseline")
    return plan


def expected_steps(spec: JobSpec, facts: PlanFacts) -> int:
    """How many steps the whole job will have, for an honest overall progress."""
    return sum(len(_steps_of(kind, spec, facts)) for kind in stages(spec))


def pool_seed(seed: int, pool: str) -> int:
    """Seed of a pool's first image; 62 bits, so that adding an image's number never overflows."""
    digest = hashlib.sha256(f"{seed}/{pool}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def _steps_of(kind: StepKind, spec: JobSpec, facts: PlanFacts) -> list[NewStep]:
    if kind == "label_shard" and isinstance(spec, LabelSpec):
        return _shards(spec, facts)
    return [NewStep(kind)]


def _shards(spec: LabelSpec, facts: PlanFacts) -> list[NewStep]:
    """All shards of all pools; image indexes of the dataset run on from pool to pool."""
    shards: list[NewStep] = []
    first_index = 0
    for pool in spec.pools:
        num_images = spec.num_images if pool == "synthesized" else num_encoded(spec, facts)
        for start in range(0, num_images, facts.shard_size):
            count = min(facts.shard_size, num_images - start)
            params = {
                "pool": pool,
                "start": start,
                "count": count,
                "shard_index": len(shards),
                "first_index": first_index + start,
                "seed": pool_seed(spec.seed, pool),
            }
            shards.append(NewStep("label_shard", len(shards), params=params))
        first_index += num_images
    return shards


def num_encoded(spec: LabelSpec, facts: PlanFacts) -> int:
    """Images of the pool that are encoded."""
    return min(facts.num_pool_images, spec.max_encoded_images or facts.num_pool_images)
