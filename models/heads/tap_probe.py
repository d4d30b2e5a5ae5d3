"""What each tap of a generator knows at each timestep: a linear read-out of that map alone, cross-validated.

Per timestep, tap and fold one ridge regression from features to one-hot classes at the map's own resolution, solved
exactly (classes weighted by the inverse root of their frequency), its answer enlarged and compared with the labels of
the examples that were left out. Nothing but sums of products is kept, so memory does not grow with the images; each
image is encoded twice per timestep, a hundredth of what fitting a head encodes (docs/decisions/0008).
Axes: B batch, C channel, D features and a constant one, H, W, R rows (pixels of a map), F folds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from models.contracts import ClassSpec, Features, FeatureSource, Stop, Stopped
from models.examples import Example, to_float_images
from models.instances import channel_classes, fold_labels
from models.metrics.segmentation import ConfusionMatrix
from models.students.batches import one_hot_targets

TIMESTEPS = (10, 50, 120, 250, 400, 600)
"""From hardly any noise to where little of an image is left."""
NUM_FOLDS = 5
MAX_EXAMPLES = 24
"""Of more annotated images the first ones are read."""
RIDGE = 0.03
"""Penalty on a weight, in units of its feature's variance."""
ENCODED_AT_ONCE = 8


@dataclass
class _Sums:
    """What a ridge regression needs to know of its rows, by fold."""

    square_FDD: Tensor
    cross_FDC: Tensor


def probe_taps(
    generator: FeatureSource,
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    timesteps: Sequence[int] = TIMESTEPS,
    *,
    seed: int = 0,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """`{timesteps, blocks: [{name, stride, channels}], miou: [timestep][block], num_folds, num_images}`, JSON-ready.

    A cell is the mIoU over all left-out examples together, in [0, 1]; None with no labelled pixel. None for one
    example, which leaves nothing out. Raises Stopped between passes.
    """
    examples = examples[:MAX_EXAMPLES]
    if len(examples) < 2:
        return None
    last = generator.num_train_timesteps - 1
    timesteps = sorted({min(timestep, last) for timestep in timesteps})
    probe = _Probe(generator, examples, classes, seed, stop)
    return {
        "timesteps": timesteps,
        "blocks": [
            {"name": name, "stride": generator.tap_strides[name], "channels": channels}
            for name, channels in generator.tap_channels.items()
        ],
        "miou": [probe.scores(timestep) for timestep in timesteps],
        "num_folds": probe.num_folds,
        "num_images": len(examples),
    }


class _Probe:
    """One generator on one set of examples; example i is left out in fold i modulo the number of folds."""

    def __init__(
        self,
        generator: FeatureSource,
        examples: Sequence[Example],
        classes: Sequence[ClassSpec],
        seed: int,
        stop: Stop | None,
    ) -> None:
        self.generator, self.examples, self.classes = generator, examples, classes
        self.seed, self.stop = seed, stop
        self.num_folds = min(NUM_FOLDS, len(examples))
        self.num_channels = len(channel_classes(classes))
        count_C = torch.stack([one_hot_targets([one], classes).sum((0, 2, 3)) for one in examples]).sum(0)
        self.weight_C = (count_C / count_C.sum().clamp_min(1)).clamp_min(1e-4).rsqrt()

    @torch.no_grad()
    def scores(self, timestep: int) -> list[float | None]:
        """mIoU of every tap at this timestep."""
        sums = self._new_sums()
        for first, features in self._passes(timestep):
            target_BCHW = one_hot_targets(self._chunk(first), self.classes) * self.weight_C[:, None, None]
            for name, map_BCHW in features.items():
                self._add(sums[name], map_BCHW, target_BCHW, first)
        weights = {name: [self._solved(part, fold) for fold in range(self.num_folds)] for name, part in sums.items()}
        counts = {name: ConfusionMatrix(len(self.classes)) for name in weights}
        for first, features in self._passes(timestep):
            for name, map_BCHW in features.items():
                for place, example in enumerate(self._chunk(first)):
                    weight_DC = weights[name][(first + place) % self.num_folds]
                    self._compare(counts[name], map_BCHW[place], weight_DC, example)
        return [None if not matrix.counts_NN.any() else matrix.miou() for matrix in counts.values()]

    def _new_sums(self) -> dict[str, _Sums]:
        return {
            name: _Sums(
                torch.zeros(self.num_folds, channels + 1, channels + 1, dtype=torch.float64),
                torch.zeros(self.num_folds, channels + 1, self.num_channels, dtype=torch.float64),
            )
            for name, channels in self.generator.tap_channels.items()
        }

    def _chunk(self, first: int) -> Sequence[Example]:
        return self.examples[first : first + ENCODED_AT_ONCE]

    def _passes(self, timestep: int) -> Iterator[tuple[int, Features]]:
        """(index of the first example, features of a chunk): the same noise in every pass."""
        for first in range(0, len(self.examples), ENCODED_AT_ONCE):
            if self.stop is not None and self.stop():
                raise Stopped
            image_BCHW = to_float_images([example.image_HWC for example in self._chunk(first)])
            seeds = [self.seed * 1009 + first + place for place in range(len(image_BCHW))]
            yield (
                first,
                self.generator.encode(image_BCHW.to(self.generator.device), tap_timestep=timestep, seeds=seeds),
            )

    def _add(self, sums: _Sums, map_BCHW: Tensor, target_BCHW: Tensor, first: int) -> None:
        """The rows of a chunk; a row counts by the weighted share of labelled pixels under it."""
        small_BCHW = functional.adaptive_avg_pool2d(target_BCHW, map_BCHW.shape[-2:]).to(map_BCHW.device)
        for place, (map_CHW, target_CHW) in enumerate(zip(map_BCHW, small_BCHW, strict=True)):
            row_RD, target_RC = _rows(map_CHW), target_CHW.flatten(1).T
            fold = (first + place) % self.num_folds
            sums.square_FDD[fold] += (row_RD.T @ (row_RD * target_RC.sum(dim=1, keepdim=True))).cpu()
            sums.cross_FDC[fold] += (row_RD.T @ target_RC).cpu()

    def _solved(self, sums: _Sums, fold: int) -> Tensor:
        """Weights DC fitted on every fold but this one."""
        square_DD = sums.square_FDD.sum(dim=0) - sums.square_FDD[fold]
        cross_DC = sums.cross_FDC.sum(dim=0) - sums.cross_FDC[fold]
        mass = square_DD[-1, -1].clamp_min(1e-6)
        variance_D = (square_DD.diagonal() / mass - (square_DD[-1] / mass).square()).clamp_min(1e-6)
        variance_D[-1] = 1e-6  # the constant is hardly held back
        return torch.linalg.solve(square_DD + RIDGE * mass * variance_D.diag(), cross_DC).float()

    def _compare(self, counts: ConfusionMatrix, map_CHW: Tensor, weight_DC: Tensor, example: Example) -> None:
        height, width = map_CHW.shape[-2:]
        answer_CR = (_rows(map_CHW) @ weight_DC.to(map_CHW.device)).T
        answer_1CHW = functional.interpolate(
            answer_CR.unflatten(1, (height, width))[None],
            size=example.label_HW.shape,
            mode="bilinear",
            align_corners=False,
        )
        label_1HW = fold_labels(answer_1CHW.argmax(dim=1).to(torch.uint8).cpu().numpy(), self.classes)
        counts.update(torch.from_numpy(label_1HW), torch.from_numpy(example.label_HW)[None])


def _rows(map_CHW: Tensor) -> Tensor:
    """Pixels as rows RD, the last feature a constant one."""
    row_RC = map_CHW.float().flatten(1).T
    return torch.cat([row_RC, row_RC.new_ones(len(row_RC), 1)], dim=1)
