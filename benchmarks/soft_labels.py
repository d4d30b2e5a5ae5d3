"""What a soft label costs to keep, and what is lost: ways to store the class distribution of every pixel.

`python -m benchmarks.soft_labels` fits a head on five labels, labels unlabelled images of the portraits and stores what
training would see in every format. `--students` trains the default student on some of them, measured on examples of
`few.zip` beyond the first five, or with `--validation FOLDER` on all of another folder's `few.zip`.
Axes: B batch, C classes, H, W.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from benchmarks.pack_images import read_few, read_unlabelled
from benchmarks.recipe import soft_labels as label
from models.contracts import ClassSpec
from models.distillation import soften
from models.examples import Example
from models.generators.families import load_source
from models.heads.fusion_training import FusionTrainConfig, fit_fusion
from models.metrics.evaluation import evaluate
from models.students.build import build_student
from models.students.predict import StudentPredictor
from models.students.training import StudentTrainConfig, train_student
from service.formats import soft_labels
from service.formats.png import encode_image_png

CPU = torch.device("cpu")
PACK = Path("examples/portraits")
GENERATOR = PACK / "generators" / "portraits"
LABELS = 5
FLOOR = 1e-4
"""Least probability that a divergence counts, and that a softened target has (`models.distillation.soften`)."""

Shape = tuple[int, int, int]
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Format:
    """A way to store probabilities; planes of bytes are deflated as the product deflates them."""

    pack: Callable[[np.ndarray], bytes]
    """Probabilities float32 CHW -> bytes."""
    unpack: Callable[[bytes, Shape], np.ndarray]
    """Those bytes and (C, H, W) -> probabilities that sum to one, but for rounding."""


def as_half() -> Format:
    """Every probability in 16 bits: the planes of its low and of its high bytes."""

    def pack(full_CHW: np.ndarray) -> bytes:
        half_CHW = full_CHW.astype(np.float16).view(np.uint16)
        return soft_labels.pack(np.concatenate([(half_CHW & 255), (half_CHW >> 8)]).astype(np.uint8))

    def unpack(data: bytes, shape: Shape) -> np.ndarray:
        low_CHW, high_CHW = np.split(soft_labels.unpack(data, (2 * shape[0], *shape[1:])).astype(np.uint16), 2)
        return (low_CHW | high_CHW << 8).view(np.float16).astype(np.float32)

    return Format(pack, unpack)


def as_levels(levels: int, power: int = 1) -> Format:
    """The `power`-th root of every probability in so many equal steps, a byte each before it is deflated."""
    return Format(
        lambda full_CHW: soft_labels.pack(_quantised(full_CHW, levels, power)),
        lambda data, shape: _restored(soft_labels.unpack(data, shape), levels, power),
    )


def _quantised(full_CHW: np.ndarray, levels: int, power: int) -> np.ndarray:
    return np.rint(full_CHW.clip(0, 1) ** (1 / power) * levels).astype(np.uint8)


def _restored(planes_CHW: np.ndarray, levels: int, power: int) -> np.ndarray:
    restored: np.ndarray = (planes_CHW / np.float32(levels)) ** power
    return restored


def as_top(count: int) -> Format:
    """The `count` likeliest classes and the rest together, as the product stores many classes; decoding spreads the rest."""

    def pack(full_CHW: np.ndarray) -> bytes:
        top_KHW = np.argsort(-full_CHW, axis=0, kind="stable")[:count]
        values_KHW = np.take_along_axis(full_CHW, top_KHW, axis=0)
        rest_1HW = 1 - values_KHW.sum(axis=0, keepdims=True)
        planes = [top_KHW.astype(np.uint8), *(_quantised(part, 255, 4) for part in (values_KHW, rest_1HW))]
        return soft_labels.pack(np.concatenate(planes))

    def unpack(data: bytes, shape: Shape) -> np.ndarray:
        planes = soft_labels.unpack(data, (2 * count + 1, *shape[1:]))
        rest_HW = _restored(planes[-1], 255, 4) / (shape[0] - count)
        full_CHW = np.repeat(rest_HW[None], shape[0], axis=0)
        np.put_along_axis(full_CHW, planes[:count].astype(np.int64), _restored(planes[count:-1], 255, 4), axis=0)
        return full_CHW

    return Format(pack, unpack)


def strided(stride: int) -> Format:
    """The product's format of the means of `stride` x `stride` pixels; decoding interpolates."""

    def pack(full_CHW: np.ndarray) -> bytes:
        coarse = functional.avg_pool2d(torch.from_numpy(full_CHW)[None], stride, ceil_mode=True)[0]
        return soft_labels.encode(coarse.numpy())

    def unpack(data: bytes, shape: Shape) -> np.ndarray:
        coarse = torch.from_numpy(soft_labels.decode(data))[None]
        fine: np.ndarray = functional.interpolate(coarse, size=shape[1:], mode="bilinear")[0].numpy()
        return fine

    return Format(pack, unpack)


def as_hard() -> Format:
    """The likeliest class alone."""

    def unpack(data: bytes, shape: Shape) -> np.ndarray:
        hard_1HW = soft_labels.unpack(data, (1, *shape[1:]))
        hot_CHW: np.ndarray = np.arange(shape[0])[:, None, None] == hard_1HW
        return hot_CHW.astype(np.float32)

    return Format(lambda full_CHW: soft_labels.pack(full_CHW.argmax(axis=0)[None].astype(np.uint8)), unpack)


PRODUCT = "fourth root, 6 bits (the product's)"
FORMATS: Mapping[str, Format] = {
    "float16": as_half(),
    "fourth root, 8 bits": as_levels(255, power=4),
    PRODUCT: Format(soft_labels.encode, lambda data, _shape: soft_labels.decode(data)),
    "fourth root, 5 bits": as_levels(31, power=4),
    "fourth root, 4 bits": as_levels(15, power=4),
    "linear, 8 bits": as_levels(255),
    "top 4, 8 bits": as_top(4),
    "top 2, 8 bits": as_top(2),
    "the product's, stride 2": strided(2),
    "the product's, stride 4": strided(4),
    "hard labels": as_hard(),
}
TELLING = ("fourth root, 8 bits", PRODUCT, "fourth root, 5 bits", "the product's, stride 4", "hard labels")


@dataclass(frozen=True)
class Stored:
    """What became of some soft labels in one format."""

    labels: list[np.ndarray]
    """As training would see them, float32 CHW."""
    bytes_per_pixel: float
    divergence: float
    """Mean KL of a pixel's full distribution from the stored one, in nats."""
    softened_divergence: float
    """The same of both at temperature 4."""
    agreement: float
    """Share of the pixels with the same likeliest class."""


def stored(form: Format, full: Sequence[np.ndarray]) -> Stored:
    """Pack and unpack soft labels CHW of one size."""
    packed = [form.pack(full_CHW) for full_CHW in full]
    shape = full[0].shape
    labels = [_normalised(form.unpack(data, (shape[0], shape[1], shape[2]))) for data in packed]
    before_BCHW, after_BCHW = (torch.from_numpy(np.stack(part)) for part in (full, labels))
    return Stored(
        labels,
        sum(map(len, packed)) / (len(full) * shape[1] * shape[2]),
        _divergence(before_BCHW, after_BCHW),
        _divergence(soften(before_BCHW, 4.0), soften(after_BCHW, 4.0)),
        float((before_BCHW.argmax(dim=1) == after_BCHW.argmax(dim=1)).double().mean()),
    )


def _normalised(label_CHW: np.ndarray) -> np.ndarray:
    normalised: np.ndarray = (label_CHW / label_CHW.sum(axis=0)).astype(np.float32)
    return normalised


def _divergence(before_BCHW: torch.Tensor, after_BCHW: torch.Tensor) -> float:
    logs = []
    for part_BCHW in (before_BCHW, after_BCHW):
        floored_BCHW = part_BCHW.double().clamp_min(FLOOR)
        logs.append((floored_BCHW / floored_BCHW.sum(dim=1, keepdim=True)).log())
    return float((logs[0].exp() * (logs[0] - logs[1])).sum(dim=1).mean())


def student_score(
    pairs: Sequence[Pair],
    weights: Sequence[float],
    few: Sequence[Example],
    held_out: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: StudentTrainConfig,
) -> float:
    """mIoU of the default student that learned these labels."""
    size = (few[0].label_HW.shape[0], few[0].label_HW.shape[1])
    student = build_student("upernet_textnet", classes, size, seed=config.seed)
    train_student(student, pairs, few, classes, config, weights=weights, device=CPU)
    return evaluate(StudentPredictor(student, classes), held_out, classes).miou or 0.0


def rows(pairs: Sequence[Pair], scored: Sequence[str], score: Callable[[Sequence[Pair]], float]) -> Iterator[str]:
    """A row of the table per format; those named in `scored` with a student's score."""
    for name, form in FORMATS.items():
        result = stored(form, [full_CHW for _, full_CHW in pairs])
        miou = ""
        if name in scored:
            miou = f"{score([(image, soft) for (image, _), soft in zip(pairs, result.labels, strict=True)]):.3f}"
        yield (
            f"| {name} | {result.bytes_per_pixel:.3f} | {result.divergence:.2g} | {result.softened_divergence:.2g} "
            f"| {result.agreement:.4%} | {miou} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit, label, store; the table as it is known."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=PACK, help="folder with few.zip and unlabelled.zip")
    parser.add_argument("--generator", type=Path, default=GENERATOR)
    parser.add_argument("--validation", type=Path, metavar="FOLDER", help="measure students on all of its few.zip")
    parser.add_argument("--images", type=int, default=200, help="unlabelled images")
    parser.add_argument("--head-steps", type=int, default=FusionTrainConfig.steps)
    parser.add_argument(
        "--students", nargs="*", choices=FORMATS, metavar="FORMAT", help="train on these; on five without"
    )
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of a student")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    examples, classes = read_few(args.pack)
    few = examples[:LABELS]
    held_out = examples[LABELS:] if args.validation is None else read_few(args.validation)[0]
    scored: Sequence[str] = () if args.students is None else args.students or TELLING
    if scored and not held_out:
        parser.error(f"{args.pack / 'few.zip'} has no labels beyond {LABELS} to measure on: give --validation FOLDER")
    left_out = [example.image_HWC.tobytes() for example in held_out]
    images_BHWC = read_unlabelled(args.pack, args.images, without=left_out)
    head_config = FusionTrainConfig(seed=args.seed, steps=args.head_steps)
    labeller = fit_fusion(load_source(args.generator), few, classes, head_config, device=CPU).labeller
    pairs, weights_B = label(labeller, images_BHWC)
    config = StudentTrainConfig(seed=args.seed, steps=args.steps)
    score = partial(
        student_score, weights=weights_B.tolist(), few=few, held_out=held_out, classes=classes, config=config
    )
    pixels = sum(image_HWC[..., 0].size for image_HWC, _ in pairs)
    png = sum(len(encode_image_png(image_HWC)) for image_HWC, _ in pairs) / pixels
    print(
        f"{len(pairs)} soft labels of {len(classes)} classes; the images themselves take {png:.2f} bytes a pixel as PNG"
    )
    print("| format | bytes/pixel | KL | KL, temperature 4 | same class | student's mIoU |\n|---|---|---|---|---|---|")
    for row in rows(pairs, scored, score):
        print(row, flush=True)


if __name__ == "__main__":
    main()
