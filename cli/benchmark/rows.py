"""The benchmark's rows, and the jobs that each of them needs: pure, every job is one that any user can submit.

Numbers in brackets are those of the rows in the field: 1 few labels only, 2 self-training, 3 DDPM-seg, 4 DatasetDDPM,
5 ours (DreamTeacher's two modes and their mix, three pools), 6 a frozen encoder instead of the generator.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cli.client import CliError, Json
from cli.shipped_weights import IMAGENET_STUDENT

FEW, OUR_PATH = "few", "label-encoded"
"""The jobs by whose times the whole budget is reckoned: the few labels alone, and our path with all that it needs."""


@dataclass(frozen=True)
class Row:
    """One way to use the labels."""

    key: str
    title: str
    job: str
    """Name of the job, within a cell, whose report is read."""
    measured: Literal["student", "head"] = "student"
    """Which row of that report."""
    every_count: bool = False
    """Measured at every number of labels; the others at the smallest ones."""
    generator: bool = True
    """Needs one."""
    whole_budget: bool = False
    """Is given the time that our path takes, which must be measured where it is not known."""


def _ours() -> Iterator[Row]:
    for mode in ("label", "feature", "mix"):
        for pool in ("encoded", "synthesized", "both"):
            yield Row(f"{mode}_{pool}", f"ours: {mode}, {pool} pool{'s' * (pool == 'both')}", f"{mode}-{pool}")


ROWS: dict[str, Row] = {
    row.key: row
    for row in (
        Row("few", "few labels only", FEW, every_count=True, generator=False),
        Row(
            "few_long",
            "few labels only, whole budget",
            "few-long",
            every_count=True,
            generator=False,
            whole_budget=True,
        ),
        Row(
            "few_imagenet",
            "few labels only, from ImageNet weights",
            "few-imagenet",
            every_count=True,
            generator=False,
        ),
        Row("self_training", "self-training without a generator", "self-training", generator=False),
        Row("ddpm_seg", "DDPM-seg: pixel MLPs on the test images", "ddpm-seg", "head"),
        Row("dataset_ddpm", "DatasetDDPM: hard labels on samples", "dataset-ddpm"),
        Row("head", "our head on the test images", "head", "head"),
        *_ours(),
        Row("ensemble_head", "our heads on generator and encoder", "ensemble-head", "head"),
        Row("ensemble", "ours: label, generator and encoder", "ensemble"),
        Row("encoder_head", "head on a frozen encoder", "encoder-head", "head", generator=False),
        Row("encoder", "distilled from a frozen encoder", "encoder", generator=False),
        Row(
            "encoder_imagenet",
            "distilled from a frozen encoder, from ImageNet weights",
            "encoder-imagenet",
            generator=False,
        ),
        Row("label_encoded_imagenet", "ours: label, encoded pool, from ImageNet weights", "label-encoded-imagenet"),
    )
}


@dataclass(frozen=True, order=True)
class Cell:
    """One number of labels under one seed."""

    labels: int
    seed: int

    def task(self, name: str) -> str:
        """Key of one of its jobs."""
        return f"n{self.labels}-s{self.seed}-{name}"


@dataclass(frozen=True)
class Task:
    """A job of the benchmark."""

    key: str
    """Unique in a benchmark; its file name and part of its idempotency key."""
    body: Json
    """The job as it is submitted, but for what `needs` fills in."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """Field of the body -> key of the task in whose result it stands."""
    whole_budget: bool = False
    """The student gets as many steps as the whole of our path has time for."""

    def filled(self, results: Mapping[str, Json], whole_budget_steps: int | None) -> Json:
        """The body with the results of the tasks before it."""
        body = {**self.body, **{name: results[key][name] for name, key in self.needs.items()}}
        if self.whole_budget:
            body["student"] = {**body.get("student", {}), "steps": whole_budget_steps}
        return body


@dataclass(frozen=True)
class Materials:
    """What the jobs of a benchmark are made of: ids and names in the service, and how much of each."""

    few: Mapping[int, str]
    """Number of labels -> annotation set."""
    test: str
    pool: str
    generator: str | None
    """Its name; None where no row needs one."""
    encoder: str | None
    """A frozen encoder's name, where there is one."""
    num_images: int
    """Images to synthesize; 0: none, and no row that needs them."""
    weights: str | None = None
    """Name of the ImageNet weights that students may start from, where there are some."""
    student_steps: int | None = None
    """Optimiser steps of every student; None: the service's own."""
    head_steps: int | None = None
    """Optimiser steps of every head on features; None: the service's own."""


def chosen_rows(names: str | None, *, sampled: bool, encoder: bool, weights: bool) -> list[Row]:
    """The rows of a comma-separated list (all when None) that can be measured. Raises `CliError` for an unknown one."""
    wanted = list(ROWS) if names is None else [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in ROWS]:
        raise CliError(f"there is no row {unknown[0]}; there are {', '.join(ROWS)}")
    left_out: set[str] = set()
    if not sampled:
        left_out |= {key for key in ROWS if key.endswith(("synthesized", "both")) or key == "dataset_ddpm"}
    if not encoder:
        left_out |= {"encoder", "encoder_head", "encoder_imagenet", "ensemble", "ensemble_head"}
    if not weights:
        left_out |= {key for key in ROWS if key.endswith("imagenet")}
    return [ROWS[key] for key in ROWS if key in wanted and key not in left_out]


def cells(counts: Sequence[int], all_labels: int, seeds: int) -> list[tuple[Cell, bool]]:
    """Every cell in the order of its worth, and whether it has all rows or only those of every count.

    All seeds of the smallest number of labels come first: a benchmark that is stopped early says something.
    """
    full = sorted(set(counts))[:2]
    every = [*full, *(count for count in sorted({*counts, all_labels}) if count not in full)]
    return [(Cell(count, seed), count in full) for count in every for seed in range(seeds)]


def cells_of(keys: Iterable[str]) -> list[Cell]:
    """The cells that these tasks belong to, each once."""
    places = (key.split("-", 2)[:2] for key in keys)
    return sorted({Cell(int(labels[1:]), int(seed[1:])) for labels, seed in places})


def tasks(
    rows: Sequence[Row], grid: Sequence[tuple[Cell, bool]], materials: Materials, *, budget_known: bool = False
) -> list[Task]:
    """Every job that is needed, each before those that need it; `budget_known`: nobody asks how long our path takes."""
    found: dict[str, Task] = {}
    for cell, full in grid:
        for row in rows:
            if full or row.every_count:
                _add(_Jobs(cell, materials).all(), row.job, found)
        if not budget_known and any(task.whole_budget for task in found.values()):
            # The time of our path, here and once, is the budget of the jobs that get the whole of it.
            for name in (FEW, OUR_PATH):
                _add(_Jobs(grid[0][0], materials).all(), name, found)
    return list(found.values())


def _add(jobs: Mapping[str, Task], name: str, found: dict[str, Task]) -> None:
    """A cell's job after those it needs, which are of the same cell."""
    by_key = {task.key: task for task in jobs.values()}
    task = jobs[name]
    for key in task.needs.values():
        found.setdefault(key, by_key[key])
    found.setdefault(task.key, task)


class _Jobs:
    """The jobs of one cell by name."""

    def __init__(self, cell: Cell, materials: Materials) -> None:
        self.cell, self.materials = cell, materials
        self.few = materials.few[cell.labels]

    def all(self) -> dict[str, Task]:
        """Every job; only those that rows ask for are submitted."""
        jobs = {
            FEW: self._few_labels(FEW),
            "few-long": self._few_labels("few-long", whole_budget=True),
            "few-imagenet": self._few_labels("few-imagenet", **self._imagenet()),
            "data-self": self._dataset("data-self", ["encoded"], kind="student"),
            "data-mlp": self._dataset("data-mlp", self._pools()[-1:], kind="pixel_mlp"),
            "data-ours": self._dataset("data-ours", self._pools(), kind="fusion"),
            "data-encoder": self._dataset("data-encoder", ["encoded"], generator=self.materials.encoder),
            "data-ensemble": self._dataset("data-ensemble", ["encoded"], encoder=self.materials.encoder),
            "self-training": self._student("self-training", "data-self"),
            "dataset-ddpm": self._student("dataset-ddpm", "data-mlp", labels="hard", example_share=0.0),
            "encoder": self._student("encoder", "data-encoder"),
            "encoder-imagenet": self._student("encoder-imagenet", "data-encoder", **self._imagenet()),
            "ddpm-seg": self._head("ddpm-seg", "data-mlp"),
            "head": self._head("head", "data-ours"),
            "encoder-head": self._head("encoder-head", "data-encoder"),
            "ensemble": self._student("ensemble", "data-ensemble"),
            "ensemble-head": self._head("ensemble-head", "data-ensemble"),
        }
        name = f"{OUR_PATH}-imagenet"
        jobs[name] = self._student(name, "data-ours", pools=["encoded"], mode="label", **self._imagenet())
        for mode in ("label", "feature", "mix"):
            for pool in ("encoded", "synthesized", "both"):
                name = f"{mode}-{pool}"
                jobs[name] = self._student(name, "data-ours", pools=None if pool == "both" else [pool], mode=mode)
        return jobs

    def _few_labels(self, name: str, *, whole_budget: bool = False, **student: Any) -> Task:
        body: Json = {"kind": "train_student", "annotation_set_id": self.few, "evaluation_set_id": self.materials.test}
        body["student"] = self._student_part(**student)
        return self._task(name, body, whole_budget=whole_budget)

    def _dataset(
        self,
        name: str,
        pools: list[str],
        *,
        kind: str = "fusion",
        generator: str | None = None,
        encoder: str | None = None,
    ) -> Task:
        body: Json = {"kind": "label", "annotation_set_id": self.few, "pools": pools, "stop_after": "dataset"}
        # Nothing of the job is measured on them, but a job that knows them spends no time on an estimate of its own.
        body["evaluation_set_id"] = self.materials.test
        # Self-training's teachers are students, and have a student's budget.
        steps = self.materials.student_steps if kind == "student" else self.materials.head_steps
        body["head"] = {"kind": kind} if steps is None else {"kind": kind, "steps": steps}
        if kind != "student":
            body["generator"] = generator or self.materials.generator
        if encoder is not None:
            body["encoder"] = encoder
        if "encoded" in pools:
            body["image_pool_id"] = self.materials.pool
        if "synthesized" in pools:
            body["num_images"] = self.materials.num_images
        if name == "data-mlp" and "encoded" in pools:
            # Where nothing is sampled, only the head of this job is measured.
            body["max_encoded_images"] = 1
        return self._task(name, body)

    def _student(self, name: str, dataset: str, *, pools: list[str] | None = None, **student: Any) -> Task:
        body: Json = {"kind": "distill", "evaluation_set_id": self.materials.test}
        body["student"] = self._student_part(**student)
        if pools is not None:
            body["pools"] = pools
        return self._task(name, body, dataset=dataset)

    def _student_part(self, **pinned: Any) -> Json:
        steps = {} if self.materials.student_steps is None else {"steps": self.materials.student_steps}
        return {**steps, **pinned}

    def _imagenet(self) -> Json:
        return {"architecture": IMAGENET_STUDENT, "weights": self.materials.weights}

    def _head(self, name: str, dataset: str) -> Task:
        return self._task(name, {"kind": "evaluate", "evaluation_set_id": self.materials.test}, dataset=dataset)

    def _task(self, name: str, body: Json, *, dataset: str | None = None, whole_budget: bool = False) -> Task:
        title = f"{self.cell.labels} labels, seed {self.cell.seed}: {name}"
        needs = {} if dataset is None else {"dataset_id": self.cell.task(dataset)}
        seed = {} if body["kind"] == "evaluate" else {"seed": self.cell.seed}
        return Task(self.cell.task(name), {**body, **seed, "name": title}, needs, whole_budget)

    def _pools(self) -> list[str]:
        return ["encoded", "synthesized"] if self.materials.num_images else ["encoded"]
