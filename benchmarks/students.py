"""Whether a student waits for its data: training from a dataset on disk against training on one batch kept in memory.

`python -m benchmarks.students` labels unlabelled images of the portraits with a head of a few steps (its unsure labels
compress worse than a good head's, so reading them is no cheaper), writes them as a job's worker does, and trains the
student that jobs train by default.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pack_images import read_few, read_unlabelled
from benchmarks.paired import Figure, in_turn, print_table
from models.augmentation import resolve
from models.distillation import SegmentationObjective
from models.generators.unet_diffusion import UNetDiffusionGenerator
from models.heads.fusion_labeller import FusionLabeller
from models.heads.fusion_training import FusionTrainConfig, fit_fusion
from models.labelling import Labeller, label_encoded
from models.students.batches import DistillationBatches, ExampleBatches
from models.students.build import build_student, student_logits
from models.students.training import StudentTrainConfig
from models.training import FitConfig, fit
from service.formats import soft_labels
from service.formats.shard import ShardSample
from workers.soft_dataset import LocalSoftDataset

CPU = torch.device("cpu")
PACK = Path("examples/portraits")
GENERATOR = PACK / "generators" / "portraits"
HEAD_STEPS = 6
CHUNK = 16


def labelled_samples(labeller: Labeller, images_BHWC: np.ndarray) -> Iterator[ShardSample]:
    """The images as a shard has them."""
    for start in range(0, len(images_BHWC), CHUNK):
        part_BHWC = images_BHWC[start : start + CHUNK]
        batch = label_encoded(labeller, part_BHWC, seeds=range(start, start + len(part_BHWC)))
        for place, image_HWC in enumerate(part_BHWC):
            soft = soft_labels.encode(batch.probabilities_BCHW[place])
            yield ShardSample(f"{start + place:07}", image_HWC, batch.labels_BHW[place], None, soft)


def figures(
    pack: Path = PACK, directory: Path = GENERATOR, *, num_images: int = 128, steps: int = 20, pairs: int = 5
) -> list[Figure]:
    """One row: steps per second from disk over those on the cached batch."""
    few, classes = read_few(pack)
    generator = UNetDiffusionGenerator.load(directory)
    head_config = FusionTrainConfig(steps=HEAD_STEPS, validate_from=len(few) + 1)
    fitted = fit_fusion(generator, few, classes, head_config, device=CPU).labeller
    assert isinstance(fitted, FusionLabeller)
    labeller = FusionLabeller(generator, fitted.head, views=1)
    images_BHWC = read_unlabelled(pack, num_images)
    height, width = images_BHWC.shape[1:3]
    config = StudentTrainConfig()
    augment = resolve(config.augment, few, num_classes=len(classes))
    with tempfile.TemporaryDirectory() as folder:
        samples = labelled_samples(labeller, images_BHWC)
        dataset = LocalSoftDataset.filled(Path(folder), samples, len(images_BHWC), (height, width))
        batches = DistillationBatches(
            dataset,
            ExampleBatches(few, classes, augment, config.batch_size, CPU),
            augment,
            batch_size=config.batch_size,
            example_share=config.example_share,
            weights=None,
            device=CPU,
        )
        cached = batches(torch.Generator().manual_seed(0))
        student = build_student("upernet_textnet", classes, (height, width))
        objective = SegmentationObjective(student, student_logits, dice_weight=config.dice_weight)

        def train(draw: Any, count: int) -> None:
            fit(objective, draw, FitConfig(steps=count), device=CPU)

        train(batches, 2)
        timed = in_turn(lambda: train(lambda _: cached, steps), lambda: train(batches, steps), pairs)
    cached_seconds, disk_seconds = timed.fastest
    detail = f"processor time {timed.processor_ratio:.3f}; {steps / disk_seconds:.1f} and {steps / cached_seconds:.1f} steps/s at best"
    return [
        Figure(
            f"steps/s from disk / on a cached batch, batch {config.batch_size}",
            timed.wall_ratio,
            at_least=0.95,
            detail=detail,
        )
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=PACK, help="folder with few.zip and unlabelled.zip")
    parser.add_argument("--generator", type=Path, default=GENERATOR)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20, help="optimiser steps of one run")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print_table(figures(args.pack, args.generator, num_images=args.images, steps=args.steps, pairs=args.pairs))


if __name__ == "__main__":
    main()
