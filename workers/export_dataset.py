"""Step `export_dataset`: the kept images of a sealed dataset as one COCO zip, with the validator's report."""

from collections.abc import Iterator
from typing import Any, Literal

from service import datasets, object_keys, sealing
from service.formats.annotated_images import LabelClass
from service.formats.coco_writer import write_coco_zip
from service.formats.shard import ShardSample
from service.tables import Dataset, DatasetShard
from service.unit_of_work import Work
from workers.artifacts import stream_shard
from workers.context import Outcome, StepContext

FORMAT: Literal["coco"] = "coco"


def run(context: StepContext) -> Outcome:
    """Write the zip to scratch, store it, record it; a zip that its validator refuses fails the step."""
    dataset_id = context.step.job_result["dataset_id"]
    with context.read() as work:
        row = datasets.get(work, dataset_id)
        shards = datasets.shards(work, dataset_id)
        dropped = frozenset(sealing.dropped_names(work, dataset_id))
    path = context.scratch / "coco.zip"
    with path.open("w+b") as file:
        report = write_coco_zip(
            file,
            classes=[LabelClass.from_json(item) for item in row.classes],
            shards=samples(context, shards),
            info=_info(row),
            keep=lambda sample: sample.key not in dropped,
            scratch=context.scratch,
        )
    key = object_keys.dataset_export(dataset_id, FORMAT, context.step.token)
    stored = context.put_file(key, path)
    export = datasets.NewExport(FORMAT, key, stored.sha256, stored.num_bytes, report["validation"])
    counts = {name: report[name] for name in ("num_images", "num_annotations")}

    def record(work: Work) -> None:
        datasets.record_export(work, dataset_id, export)

    return Outcome({"key": key, "sha256": stored.sha256, **counts}, record)


def samples(context: StepContext, shards: list[DatasetShard]) -> Iterator[ShardSample]:
    """All samples of all shards, with progress; stops between two images when asked to."""
    done, total = 0, sum(shard.num_images for shard in shards)
    for shard in shards:
        for sample in stream_shard(context, shard.key):
            context.check()
            yield sample
            done += 1
            context.progress(done, total, unit="images", message=f"shard {shard.index}")


def _info(row: Dataset) -> dict[str, Any]:
    names = [item["name"] for item in row.classes]
    return {"description": row.name, "dataset_id": row.id, "classes": names, "lineage": row.card}
