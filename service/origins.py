"""What jobs made their things from: the label job behind a dataset, the annotated images behind a network."""

from __future__ import annotations

from dataclasses import dataclass

from service.job_spec import DistillSpec, LabelSpec, TrainStudentSpec, parse
from service.tables import Dataset, Job
from service.unit_of_work import Work


@dataclass(frozen=True)
class LabelOrigin:
    """The label job that a dataset's labels come from."""

    job_id: str
    """Its step `fit_head` left the head."""
    spec: LabelSpec
    """Its generator gave the features."""


def of_dataset(work: Work, dataset: Dataset) -> LabelOrigin:
    """The label job that made a dataset."""
    spec = parse(work.session.get_one(Job, dataset.job_id).spec)
    assert isinstance(spec, LabelSpec)
    return LabelOrigin(dataset.job_id, spec)


def learned_from(work: Work, job_id: str) -> list[str]:
    """Annotation sets that the student or dataset of this job has learned from, its own first."""
    spec = parse(work.session.get_one(Job, job_id).spec)
    if isinstance(spec, DistillSpec):
        assert spec.annotation_set_id is not None, "filled in when the job was made"
        dataset = work.session.get_one(Dataset, spec.dataset_id)
        return [spec.annotation_set_id, *learned_from(work, dataset.job_id)]
    return [spec.annotation_set_id] if isinstance(spec, LabelSpec | TrainStudentSpec) else []
