"""Step `label_shard`: sampled or real images -> a shard of images with labels and soft labels."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np

from models.labelling import LabelledBatch, label_encoded, label_synthesized
from models.selection import pixel_threshold
from service import datasets, image_pools, object_keys
from service.formats import soft_labels
from service.formats.annotated_images import IGNORE, LabelClass
from service.formats.shard import ShardSample
from workers.artifacts import find_generator, load_labeller, stream_shard
from workers.context import Outcome, StepContext
from workers.device import halving, inference_batch
from workers.sample_sheets import labelled_sheet
from workers.shard_pieces import PieceImage, ShardPieces

SEED_BITS = 48
"""Models derive further seeds from an image's; this leaves them room in 64 bits."""
SHEETS = 16
"""The first shards show samples, and after that every sixteenth."""

Label = Callable[[list[int]], tuple[LabelledBatch, list[bytes | None]]]
"""Seeds of the next images -> these images, labelled, and the PNG of each where the pool has it already."""


@dataclass(frozen=True)
class ShardParams:
    """What the plan says about a shard."""

    pool: Literal["synthesized", "encoded"]
    start: int
    """Place of the first image in its pool."""
    count: int
    shard_index: int
    first_index: int
    """Place of the first image in the dataset."""
    seed: int
    """Seed of the pool's image 0."""

    def seeds(self, first: int, count: int) -> list[int]:
        """Seeds of images `first` .. of this shard."""
        begin = self.seed + self.start + first
        return [number % 2**SEED_BITS for number in range(begin, begin + count)]


def run(context: StepContext) -> Outcome:
    """Label batch by batch from where the last attempt stopped, then store the shard whole."""
    params = ShardParams(**context.step.params)
    pieces = ShardPieces(context.checkpoint.folder)
    work = _ShardWork(context, params, pieces)
    halving(work.batch_size(), work.label_all)
    dataset_id = context.step.job_result["dataset_id"]
    key = object_keys.dataset_shard(dataset_id, params.shard_index, context.step.token)
    stored = context.put(key, pieces.stream())
    shard = datasets.NewShard(
        index=params.shard_index,
        key=key,
        sha256=stored.sha256,
        num_bytes=stored.num_bytes,
        num_images=params.count,
        pool_kind=params.pool,
    )
    images = pieces.images()
    output = {"key": key, "sha256": stored.sha256, "num_images": params.count, "pool": params.pool}
    return Outcome(output, lambda work: datasets.record_shard(work, dataset_id, shard, images))


class _ShardWork:
    """Labelling in this thread, encoding and checkpointing of the batch before in another."""

    def __init__(self, context: StepContext, params: ShardParams, pieces: ShardPieces) -> None:
        self.context, self.params, self.pieces = context, params, pieces
        self.generator_row = find_generator(context)
        with context.read() as work:
            self.dataset = datasets.get(work, context.step.job_result["dataset_id"])
        self.classes = tuple(LabelClass.from_json(item) for item in self.dataset.classes)

    def batch_size(self) -> int:
        """Images at once, if they fit."""
        return inference_batch(self.context.device, self.dataset.image_height, self.dataset.image_width)

    def label_all(self, batch_size: int) -> None:
        """Label what is not yet in a piece."""
        done = self.pieces.num_images
        label = self._synthesizer() if self.params.pool == "synthesized" else self._encoder(done)
        self._report(done, {})
        pending: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="pieces") as writer:
            while done < self.params.count:
                self.context.check()
                seeds = self.params.seeds(done, min(batch_size, self.params.count - done))
                batch, pngs = label(seeds)
                if pending is not None:
                    pending.result()
                if done == 0 and self._shows_samples():
                    self._show(batch)
                pending = writer.submit(self._write, batch, pngs, seeds, done)
                done += len(seeds)
                self._report(done, {"uncertainty": float(batch.uncertainty_B.mean())})
            if pending is not None:
                pending.result()

    def _report(self, done: int, metrics: dict[str, float]) -> None:
        self.context.progress(done, self.params.count, metrics, unit="images", message=self.params.pool)

    def _synthesizer(self) -> Label:
        labeller = load_labeller(self.context)
        steps = self.context.label_spec.sampling_steps
        options: dict[str, Any] = {} if steps is None else {"num_steps": steps}

        def label(seeds: list[int]) -> tuple[LabelledBatch, list[bytes | None]]:
            return label_synthesized(labeller, seeds, **options), [None] * len(seeds)

        return label

    def _encoder(self, done: int) -> Label:
        labeller = load_labeller(self.context)
        images = self._pool_images(done)

        def label(seeds: list[int]) -> tuple[LabelledBatch, list[bytes | None]]:
            samples = list(islice(images, len(seeds)))
            images_BHWC = np.stack([sample.image_HWC for sample in samples])
            return label_encoded(labeller, images_BHWC, seeds=seeds), [sample.image_png for sample in samples]

        return label

    def _pool_images(self, done: int) -> Iterator[ShardSample]:
        """The shard's real images from `done` on, read forward through the parts of the pool."""
        pool_id = self.context.label_spec.image_pool_id
        assert pool_id is not None
        with self.context.read() as work:
            slices = image_pools.slices(work, pool_id, self.params.start + done, self.params.count - done)
        for part in slices:
            yield from islice(stream_shard(self.context, part.key, skip=part.first), part.count)

    def _write(self, batch: LabelledBatch, pngs: list[bytes | None], seeds: list[int], first: int) -> None:
        images = []
        for place, (png, seed) in enumerate(zip(pngs, seeds, strict=True)):
            images.append(self._image(batch, place, png, seed, first + place))
        self.pieces.write(images)
        self.context.checkpoint.save()

    def _image(self, batch: LabelledBatch, place: int, png: bytes | None, seed: int, place_in_shard: int) -> PieceImage:
        label_HW = self._without_uncertain_pixels(batch, place)
        pixels = np.bincount(label_HW.ravel(), minlength=256)[: len(self.classes)].tolist()
        uncertainty = float(batch.uncertainty_B[place])
        index = self.params.first_index + place_in_shard
        key = f"{index:07}"
        meta = {
            "name": key,
            "pool": self.params.pool,
            "pool_index": self.params.start + place_in_shard,
            "seed": seed,
            "uncertainty": uncertainty,
            "class_pixels": pixels,
            "generator": None if self.generator_row is None else self.generator_row.id,
            "generator_digest": None if self.generator_row is None else self.generator_row.digest,
        }
        instances = None if batch.instances_BHW is None else batch.instances_BHW[place].astype(np.uint16)
        soft = soft_labels.encode(batch.probabilities_BCHW[place])
        sample = ShardSample(key, batch.images_BHWC[place], label_HW, instances, soft, meta, image_png=png)
        return PieceImage(index, sample, uncertainty, pixels)

    def _without_uncertain_pixels(self, batch: LabelledBatch, place: int) -> np.ndarray:
        share = self.context.label_spec.filter.ignore_pixel_share
        label_HW = batch.labels_BHW[place].astype(np.uint8)
        divergence_HW = batch.uncertainty_BHW[place]
        return np.where(divergence_HW > pixel_threshold(divergence_HW, ignore_share=share), np.uint8(IGNORE), label_HW)

    def _shows_samples(self) -> bool:
        index = self.params.shard_index
        return index < SHEETS or index % SHEETS == 0

    def _show(self, batch: LabelledBatch) -> None:
        sheet = labelled_sheet(batch, self.classes, batch.uncertainty_B.tolist())
        self.context.show_sample(
            "samples.png", sheet, f"{self.params.pool} images with their labels, most certain first"
        )
