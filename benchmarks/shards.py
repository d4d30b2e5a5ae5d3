"""What the service adds to labelling: the whole step `label_shard` against the bare loop of label calls.

`python -m benchmarks.shards` runs a job on the portraits in a service of its own (SQLite and a folder, both temporary):
claim, lease, labelling, PNG, soft labels, checkpoints, sheet, tar, object store and rows, shard after shard, in turn with
`label_synthesized` or `label_encoded` alone on as many images in the same batches. Shards are smaller than a job's
256 images, so that what is paid once per shard weighs more here than in a job. Of encoded ones many are timed: the same
label calls take half as long again from one minute to the next on a shared machine, and a shard of them is short.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
import torch

from benchmarks.pack_images import read_unlabelled
from benchmarks.paired import Figure, from_pairs, in_turn, print_table
from models.labelling import Labeller, label_encoded, label_synthesized
from service import generators, image_pools, jobs
from service.bootstrap import Factory, build_factory, prepare
from service.job_spec import parse
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID
from service.upload_reading import AnnotationRequest
from service.uploads import (
    prepare_annotation_set,
    prepare_pool_part,
    store_annotation_set,
    store_pool_part,
)
from workers import label_shard
from workers.artifacts import load_labeller
from workers.context import Outcome, StepContext
from workers.device import inference_batch
from workers.handlers import HANDLERS
from workers.runtime import run_next_step

PACK = Path("examples/portraits")
GENERATOR = PACK / "generators" / "portraits"


class Service:
    """A service with one label job, whose shards are run one by one."""

    def __init__(self, factory: Factory) -> None:
        self.factory = factory
        self.labeller: Labeller

    def submit(self, pack: Path, directory: Path, scratch: Path, document: dict[str, object]) -> None:
        """The job, up to its first shard, which warms up what all of them use."""
        settings = self.factory.settings
        few = prepare_annotation_set(pack / "few.zip", scratch, AnnotationRequest("few"), settings)
        part = prepare_pool_part(pack / "unlabelled.zip", scratch, settings)
        with self.factory.work() as work:
            pool = image_pools.create(work, "unlabelled")
            store_pool_part(work, pool.id, part)
            image_pools.seal(work, pool.id)
            common = {
                "kind": "label",
                "generator": generators.register_bundled(work, "generator", directory).id,
                "annotation_set_id": store_annotation_set(work, few).id,
                "image_pool_id": pool.id if document["pools"] == ["encoded"] else None,
                "head": {"steps": 1, "batch_size": 4, "tap_timestep": 50},
                "stop_after": "dataset",
            }
            jobs.create(work, parse({**common, **document}))
        self.run_step()
        self.run_step()

    def run_step(self) -> None:
        """The next step; of a shard the labeller is kept."""

        def run_shard(context: StepContext) -> Outcome:
            self.labeller = load_labeller(context)
            return label_shard.run(context)

        if not run_next_step(self.factory, "benchmark", {**HANDLERS, "label_shard": run_shard}):
            raise RuntimeError("the job has no step left to be timed")


def cost(pack: Path, directory: Path, pool: str, *, shard_size: int, pairs: int, num_steps: int) -> Figure:
    """One row: a shard as a step of a job over the bare loop."""
    document: dict[str, object] = {"pools": [pool], "sampling_steps": num_steps}
    wanted = shard_size * (pairs + 1)  # the first warms up
    document["num_images" if pool == "synthesized" else "max_encoded_images"] = wanted
    with tempfile.TemporaryDirectory() as folder:
        factory = build_factory(Settings(data_dir=Path(folder) / "data", shard_size=shard_size))
        prepare(factory)
        service = Service(factory.within(DEFAULT_WORKSPACE_ID))
        service.submit(pack, directory, Path(folder), document)
        bare = _bare(service.labeller, pack, pool, shard_size, num_steps)
        timed = in_turn(service.run_step, bare, pairs)
        factory.close()
    return from_pairs(f"{pool} shard of {shard_size} as a step / bare loop", timed, at_most=1.05)


def _bare(labeller: Labeller, pack: Path, pool: str, count: int, num_steps: int) -> Callable[[], None]:
    """The label calls of one shard alone."""
    images_BHWC = read_unlabelled(pack, count)
    batch = inference_batch(torch.device("cpu"), *images_BHWC.shape[1:3])

    def run() -> None:
        for start in range(0, count, batch):
            seeds = range(start, min(start + batch, count))
            if pool == "synthesized":
                label_synthesized(labeller, seeds, num_steps=num_steps)
            else:
                label_encoded(labeller, images_BHWC[seeds.start : seeds.stop], seeds=seeds)

    return run


def figures(
    pack: Path = PACK,
    directory: Path = GENERATOR,
    *,
    synthesized: int = 32,
    encoded: int = 64,
    pairs: tuple[int, int] = (3, 11),
    num_steps: int = 20,
) -> list[Figure]:
    """A row per pool, each with its own number of pairs."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    sizes = {"synthesized": synthesized, "encoded": encoded}
    return [
        cost(pack, directory, pool, shard_size=size, pairs=count, num_steps=num_steps)
        for (pool, size), count in zip(sizes.items(), pairs, strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=PACK, help="folder with few.zip and unlabelled.zip")
    parser.add_argument("--generator", type=Path, default=GENERATOR)
    parser.add_argument("--synthesized", type=int, default=32, help="images of a synthesized shard")
    parser.add_argument("--encoded", type=int, default=64, help="images of an encoded shard")
    parser.add_argument("--pairs", type=int, nargs=2, default=(3, 11), help="of shards of each pool")
    parser.add_argument("--sampling-steps", type=int, default=20)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows = figures(
        args.pack,
        args.generator,
        synthesized=args.synthesized,
        encoded=args.encoded,
        pairs=tuple(args.pairs),
        num_steps=args.sampling_steps,
    )
    print_table(rows)


if __name__ == "__main__":
    main()
