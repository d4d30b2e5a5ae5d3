"""Head, student and few-label baseline on annotated images that are no test images: where a recipe is chosen.

`python -m benchmarks.recipe PACK_DIR GENERATOR_DIR --labels 5 --seeds 1` takes the first labels of `few.zip` (`--split 1`:
the next), measures on the rest of it, and distils on the images of `unlabelled.zip` that are not measured on.
`--blind` sets the generator's features to zero: what the same head and student reach without a generator.
`--head-only` ends with the head, where only sources of features are compared; GENERATOR_DIR may be of any family.
`--head pixel_mlp` or `--head student` label with another kind of head, the latter without the generator.
`--validation ZIP_FOLDER` measures on another folder's `few.zip`.
Axes: B batch, C channel, H, W.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.pack_images import read_few, read_unlabelled
from models.contracts import ClassSpec, Features, FeatureSource
from models.encoders.image_encoder import ImageEncoder
from models.examples import Example
from models.generators.families import load_source
from models.heads.kinds import HEAD_KINDS, HeadKind
from models.labelling import Labeller, LabellerPredictor, label_encoded
from models.metrics.evaluation import Predictor, evaluate
from models.selection import keep_most_certain, sampling_weights
from models.students.build import build_student
from models.students.predict import StudentPredictor
from models.students.training import StudentTrainConfig, train_baseline, train_student

CPU = torch.device("cpu")
DROP_SHARE = 0.1


class BlindSource:
    """A source whose features say nothing; all else is that of the one it stands for."""

    def __init__(self, source: FeatureSource) -> None:
        self.source = source

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def encode(self, images_BCHW: Tensor, *, tap_timestep: int | None = None, seeds: Sequence[int]) -> Features:
        """Zeros of the right shapes."""
        del tap_timestep, seeds
        height, width = self.source.image_size[1:]
        strides = self.source.tap_strides
        return {
            name: images_BCHW.new_zeros(len(images_BCHW), channels, height // strides[name], width // strides[name])
            for name, channels in self.source.tap_channels.items()
        }


def soft_labels(labeller: Labeller, images_BHWC: np.ndarray) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """The kept images with their soft labels, and their sampling weights."""
    batches = []
    for start in range(0, len(images_BHWC), 32):
        part_BHWC = images_BHWC[start : start + 32]
        seeds = range(start, start + len(part_BHWC))
        batches.append(label_encoded(labeller, part_BHWC, seeds=seeds))
    soft_BCHW = np.concatenate([batch.probabilities_BCHW for batch in batches])
    kept_B = keep_most_certain(np.concatenate([batch.uncertainty_B for batch in batches]), drop_share=DROP_SHARE)
    weights_B = sampling_weights(soft_BCHW[kept_B].sum(axis=(2, 3)))
    return list(zip(images_BHWC[kept_B], soft_BCHW[kept_B], strict=True)), weights_B


def run(
    source: FeatureSource,
    few: Sequence[Example],
    held_out: Sequence[Example],
    classes: Sequence[ClassSpec],
    images_BHWC: np.ndarray,
    seed: int,
    *,
    kind: HeadKind,
    head_only: bool,
) -> None:
    """One seed: three rows, or the first alone."""

    def row(name: str, predictor: Predictor, started: float) -> None:
        result = evaluate(predictor, held_out, classes)
        per_class = " ".join(f"{key} {value or 0:.2f}" for key, value in result.per_class_iou.items())
        print(
            f"| {seed} | {name} | {result.miou:.3f} | {per_class} | {time.process_time() - started:.0f} |", flush=True
        )

    size = (few[0].label_HW.shape[0], few[0].label_HW.shape[1])
    started = time.process_time()
    labeller = kind.fit(source, few, classes, kind.config(seed=seed), device=CPU).labeller
    row("head", LabellerPredictor(labeller), started)
    if head_only:
        return
    pairs, weights_B = soft_labels(labeller, images_BHWC)
    config = StudentTrainConfig(seed=seed)
    started = time.process_time()
    student = build_student("upernet_textnet", classes, size, seed=seed)
    train_student(student, pairs, few, classes, config, weights=weights_B.tolist(), device=CPU)
    row("student", StudentPredictor(student, classes), started)
    started = time.process_time()
    baseline = build_student("upernet_textnet", classes, size, seed=seed)
    train_baseline(baseline, few, classes, config, device=CPU)
    row("few labels only", StudentPredictor(baseline, classes), started)


def main() -> None:
    """Fit, distil, measure; a row per seed and network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path, metavar="PACK_DIR", help="folder with few.zip and unlabelled.zip")
    parser.add_argument("generator", type=Path, metavar="GENERATOR_DIR")
    parser.add_argument("--validation", type=Path, metavar="ZIP_FOLDER", help="measure on all of its few.zip instead")
    parser.add_argument("--labels", type=int, default=5)
    parser.add_argument("--split", type=int, default=0, help="which group of so many labels is trained on")
    parser.add_argument("--images", type=int, default=800, help="unlabelled images to distil on")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--head", choices=sorted(HEAD_KINDS), default="fusion", help="what labels the images")
    parser.add_argument("--blind", action="store_true", help="the generator's features set to zero")
    parser.add_argument("--head-only", action="store_true", help="no student, no baseline")
    args = parser.parse_args()
    examples, classes = read_few(args.pack)
    first, last = args.split * args.labels, (args.split + 1) * args.labels
    few = examples[first:last]
    held_out = examples[:first] + examples[last:] if args.validation is None else read_few(args.validation)[0]
    images_BHWC = read_unlabelled(args.pack, args.images, without=[example.image_HWC.tobytes() for example in held_out])
    source = load_source(args.generator)
    if isinstance(source, ImageEncoder):
        source = source.for_images(*few[0].label_HW.shape)
    if args.blind:
        source = BlindSource(source)
    print(f"{len(few)} labels, {len(images_BHWC)} unlabelled, measured on {len(held_out)}")
    print("| seed | network | mIoU | IoU | CPU s |\n|---|---|---|---|---|", flush=True)
    for seed in range(args.seeds):
        run(source, few, held_out, classes, images_BHWC, seed, kind=HEAD_KINDS[args.head], head_only=args.head_only)


if __name__ == "__main__":
    main()
