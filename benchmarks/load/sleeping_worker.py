"""`python -m benchmarks.load.sleeping_worker`: a worker process as it is, but for labelling, which sleeps.

Claim, lease, heartbeat, checkpoint, tar, object store and rows are real; what a device would compute takes
`SLEEPING_WORKER_SECONDS` a shard, and no core.
"""

import os
import time

import numpy as np

from service import datasets, object_keys
from service.formats.shard import ShardSample
from workers import embedded
from workers.context import Outcome, StepContext
from workers.handlers import HANDLERS
from workers.label_shard import ShardParams
from workers.shard_pieces import PieceImage, ShardPieces

SECONDS = "SLEEPING_WORKER_SECONDS"
SIDE = 16
BATCHES = 2


def fit_head(_context: StepContext) -> Outcome:
    """Nothing to fit."""
    return Outcome({"kind": "sleeping", "card": {"kind": "sleeping"}})


def label_shard(context: StepContext) -> Outcome:
    """Tiny images in two batches, each with its checkpoint and its look whether to stop."""
    params = ShardParams(**context.step.params)
    pieces = ShardPieces(context.checkpoint.folder)
    for places in np.array_split(np.arange(params.count), BATCHES):
        context.check()
        time.sleep(float(os.environ[SECONDS]) / BATCHES)
        if len(places):
            pieces.write([_image(params, int(place)) for place in places])
            context.checkpoint.save()
        context.progress(int(places[-1]) + 1 if len(places) else params.count, params.count, unit="images")
    dataset_id = context.step.job_result["dataset_id"]
    key = object_keys.dataset_shard(dataset_id, params.shard_index, context.step.token)
    stored = context.put(key, pieces.stream())
    shard = datasets.NewShard(params.shard_index, key, stored.sha256, stored.num_bytes, params.count, params.pool)
    images = pieces.images()
    return Outcome({"key": key}, lambda work: datasets.record_shard(work, dataset_id, shard, images))


def _image(params: ShardParams, place: int) -> PieceImage:
    index = params.first_index + place
    image_HWC = np.full((SIDE, SIDE, 3), index % 256, np.uint8)
    sample = ShardSample(f"{index:07}", image_HWC, np.zeros((SIDE, SIDE), np.uint8), meta={"name": f"{index:07}"})
    return PieceImage(index, sample, (index * 37 % 101) / 101, [SIDE * SIDE, 0])


def main() -> None:
    """Run until a signal."""
    HANDLERS.update({"fit_head": fit_head, "label_shard": label_shard})
    embedded.main()


if __name__ == "__main__":
    main()
