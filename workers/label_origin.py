"""The label job whose generator and head a step works with: its own, or that of the dataset its job names."""

from service import datasets, origins
from service.job_spec import DistillSpec, EvaluateSpec, LabelSpec
from service.origins import LabelOrigin
from workers.context import StepContext


def label_origin(context: StepContext) -> LabelOrigin:
    """Where the labels that this step makes, learns or measures come from."""
    spec = context.step.spec
    if isinstance(spec, LabelSpec):
        return LabelOrigin(context.step.job_id, spec)
    assert isinstance(spec, DistillSpec | EvaluateSpec)
    assert spec.dataset_id is not None
    with context.read() as work:
        return origins.of_dataset(work, datasets.get(work, spec.dataset_id))
