"""Two ways from a network's output to instances: contour channel with watershed, against connected components.

`python -m benchmarks.instances PACK_DIR --labels 20 --steps 200 --seeds 1` trains the few-label student on the first
images of `few.zip` and measures on the rest of it; `test.zip` is never opened. The same network answers for both ways;
a second network of the same initialisation, trained without contour channels, is the plain alternative as a whole.
Axes: B batch, C channel, H, W.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.pack_images import read_few
from models.contracts import ClassSpec
from models.examples import Example
from models.instances import fold_labels
from models.metrics.evaluation import EvaluationResult, Prediction, evaluate
from models.students.batches import one_hot_targets
from models.students.build import build_student
from models.students.predict import StudentPredictor, as_prediction
from models.students.training import StudentTrainConfig, train_baseline

MIN_PIXELS = 4
"""Smaller parts are dropped, as `decode_instances` does."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Fixed:
    """Predictor of one batch whose answer is already known."""

    prediction: Prediction

    def predict(self, images_BHWC: np.ndarray) -> Prediction:  # noqa: ARG002 - a predictor is asked with images
        """The known answer."""
        return self.prediction


def components(probabilities_BCHW: np.ndarray, classes: Sequence[ClassSpec]) -> Prediction:
    """Instances as the connected parts (4 neighbours) of every thing class of the folded label map."""
    labels_BHW = fold_labels(probabilities_BCHW.argmax(axis=1).astype(np.uint8), classes)
    instances_BHW = np.zeros(labels_BHW.shape, dtype=np.uint16)
    for label_HW, instances_HW in zip(labels_BHW, instances_BHW, strict=True):
        for index, spec in enumerate(classes):
            parts_HW, count = ndimage.label((label_HW == index) & spec.thing)
            for part in range(1, count + 1):
                if (inside_HW := parts_HW == part).sum() >= MIN_PIXELS:
                    instances_HW[inside_HW] = instances_HW.max() + 1
    return Prediction(probabilities_BCHW, instances_BHW)


def probabilities(
    train: Sequence[Example], held_out: Sequence[Example], classes: Sequence[ClassSpec], steps: int, seed: int
) -> np.ndarray:
    """Channel probabilities BCHW of the held-out images by the few-label student."""
    student = build_student("upernet_textnet", classes, train[0].label_HW.shape, seed=seed)
    config = StudentTrainConfig(steps=0, finetune_steps=steps, seed=seed)
    train_baseline(student, train, classes, config, device=CPU)
    images_BHWC = np.stack([example.image_HWC for example in held_out])
    answer_BCHW: np.ndarray = StudentPredictor(student, classes).predict(images_BHWC).probabilities_BCHW
    return answer_BCHW


def main() -> None:
    """Train, decode both ways, print one row per network and way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path, metavar="PACK_DIR", help="folder with few.zip")
    parser.add_argument("--labels", type=int, default=20, help="images to train on; the rest of few.zip is held out")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    examples, classes = read_few(args.pack)
    if not any(spec.thing for spec in classes):
        raise SystemExit(f"{args.pack} has no class with instances; take an instance pack.")
    train, held_out = examples[: args.labels], examples[args.labels :]
    objects = sum(len(np.unique(example.instances_HW)) - 1 for example in held_out if example.instances_HW is not None)
    print(
        f"{len(train)} labels, {args.steps} steps, {len(held_out)} held-out images with {objects} objects", flush=True
    )
    print("| masks of | instances by | mIoU | AP50 | AP | objects |\n|---|---|---|---|---|---|")

    def row(name: str, way: str, prediction: Prediction) -> None:
        result: EvaluationResult = evaluate(Fixed(prediction), held_out, classes, batch_size=len(held_out))
        found = 0 if prediction.instances_BHW is None else int(prediction.instances_BHW.max(axis=(1, 2)).sum())
        scores = f"{result.miou:.3f} | {result.ap50:.3f} | {result.ap:.3f} | {found}"
        print(f"| {name} | {way} | {scores} |", flush=True)

    def both(name: str, probabilities_BCHW: np.ndarray) -> None:
        row(name, "contour, watershed", as_prediction(probabilities_BCHW, classes))
        row(name, "components", components(probabilities_BCHW, classes))

    both("the annotation", one_hot_targets(held_out, classes).numpy())
    for seed in range(args.seeds):
        both(f"seed {seed}", probabilities(train, held_out, classes, args.steps, seed))
    plain = [replace(spec, thing=False) for spec in classes]
    padding = [(0, 0), (0, sum(spec.thing for spec in classes)), (0, 0), (0, 0)]
    for seed in range(args.seeds):
        answer_BCHW = probabilities(train, held_out, plain, args.steps, seed)
        row(f"seed {seed}, no contour trained", "components", components(np.pad(answer_BCHW, padding), classes))


if __name__ == "__main__":
    main()
