"""What jobs take in, and which job still needs a thing: so that nothing is deleted from under a job.

A job locks what it takes in (`FOR KEY SHARE`) before it is made or taken up again; a deletion locks the row for itself
(`FOR UPDATE`) before it looks for jobs. Whichever comes first, the other sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, false, or_, select, union
from sqlalchemy.orm import aliased

from service import origins
from service.errors import Conflict
from service.job_spec import DistillSpec, EvaluateSpec, JobSpec, dump
from service.lookup import is_deleted
from service.plan import GOING_ON
from service.tables import AnnotationSet, Dataset, Generator, ImagePool, Job, Report, Step, Student
from service.tenancy import EVERYWHERE
from service.unit_of_work import Work

Thing = AnnotationSet | Dataset | Generator | ImagePool | Report | Student
"""What a job takes in or makes."""

FIELDS: dict[type[Any], tuple[str, ...]] = {
    AnnotationSet: ("annotation_set_id", "evaluation_set_id"),
    ImagePool: ("image_pool_id",),
    Generator: ("generator", "encoder", "base_generator"),
    Dataset: ("dataset_id",),
    Student: ("student_id",),
    Report: (),
}
"""Fields of a spec that name such a thing by its id."""
NOUNS: dict[type[Any], str] = {
    AnnotationSet: "annotation set",
    ImagePool: "image pool",
    Generator: "generator",
    Dataset: "dataset",
    Student: "student",
    Report: "report",
}
PRODUCTS = (Dataset, Generator, Student, Report)


def hold(work: Work, spec: JobSpec) -> None:
    """Keep what a job takes in until the commit. Raises Conflict when one of it has been deleted."""
    for table, row_id in sorted(_inputs(work, spec), key=lambda item: item[1]):
        query = select(table).where(table.id == row_id).with_for_update(read=True, key_share=True)
        row = work.session.scalars(query, execution_options={"populate_existing": True}).one()
        if is_deleted(row):
            raise Conflict(f"The {NOUNS[table]} {row_id} was deleted; submit a new job with another one.")


def require_products(work: Work, job: Job) -> None:
    """Raises Conflict when something that the job made was deleted: it cannot go on with the rest."""
    for table in PRODUCTS:
        query = select(table.id).where(table.job_id == job.id, table.deleted_at.is_not(None))
        for row_id in work.session.scalars(query):
            raise Conflict(f"The {NOUNS[table]} {row_id} of the job {job.id} was deleted; submit a new job.")


def require_unused(work: Work, row: Thing) -> None:
    """Raises Conflict with the job that goes on and makes this thing or takes it in."""
    noun, table = NOUNS[type(row)], type(row)
    origin = aliased(Job)
    # Who learns from a dataset, or measures its head, also needs what the dataset was labelled with.
    labelled = select(Dataset.id).join(origin, origin.id == Dataset.job_id)
    labelled = labelled.where(Dataset.id == Job.spec["dataset_id"].as_string(), _names(origin.spec, table, row.id))
    needs = or_(Job.id == getattr(row, "job_id", None), _names(Job.spec, table, row.id), labelled.exists())
    # What all workspaces are offered is needed by any of them.
    options = {EVERYWHERE: getattr(row, "workspace_id", None) is None}
    query = select(Job).where(Job.id.in_(_going_on()), needs).limit(1)
    job = work.session.scalars(query, execution_options=options).one_or_none()
    if job is not None:
        raise Conflict(
            f"The {noun} {row.id} is needed by the job {job.id}, which is {job.state}; wait for its end or cancel it."
        )


def is_busy(work: Work, job: Job) -> bool:
    """Whether the job goes on, or a step of its still runs after it has failed."""
    query = select(Job.id).where(Job.id == job.id, Job.id.in_(_going_on()))
    return work.session.scalars(query).one_or_none() is not None


def _going_on() -> CompoundSelect[tuple[str]]:
    """Ids, from two indexes: of all jobs there ever were, few go on."""
    job = aliased(Job)
    return union(select(job.id).where(job.state.in_(GOING_ON)), select(Step.job_id).where(Step.state == "running"))


def _names(spec: Any, table: type[Any], row_id: str) -> ColumnElement[bool]:
    return or_(false(), *(spec[field].as_string() == row_id for field in FIELDS[table]))


def _inputs(work: Work, spec: JobSpec) -> Iterator[tuple[type[Any], str]]:
    document = dump(spec)
    for table, fields in FIELDS.items():
        yield from ((table, str(document[field])) for field in fields if document.get(field) is not None)
    if isinstance(spec, EvaluateSpec | DistillSpec) and spec.dataset_id is not None:
        of_labels = isinstance(spec, DistillSpec) and spec.student.mode == "label"
        labelled = origins.of_dataset(work, work.session.get_one(Dataset, spec.dataset_id)).spec
        for name in () if of_labels else (labelled.generator, labelled.encoder):
            if name is not None:
                yield Generator, name
