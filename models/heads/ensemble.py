"""Labellers on several sources of features that label together: their mean is the soft label.

A generator that has seen the user's images and an encoder that has seen everybody's err in different places, so that
the mean of their heads is better than either (docs/decisions/0033). Axes: B batch, C channel, H, W, K members.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import lcm
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.contracts import ClassSpec, FeatureSource, Progress, Stop
from models.examples import Example
from models.heads.fusion import CONFIG
from models.heads.kinds import HEAD_KINDS, HeadKind
from models.heads.tap_blocks import own_blocks
from models.labelling import FittedHead, Labeller


class Ensemble:
    """Implements `models.labelling.Labeller`; the first of its labellers draws the images."""

    kind = "ensemble"

    def __init__(self, labellers: Sequence[Labeller]) -> None:
        self.labellers = tuple(labellers)
        self.title = " + ".join(labeller.title for labeller in self.labellers)

    def save(self, directory: Path) -> None:
        """Writes every labeller into a folder of its number."""
        for index, labeller in enumerate(self.labellers):
            labeller.save(directory / str(index))
        (directory / CONFIG).write_text(json.dumps({"kind": self.kind, "labellers": len(self.labellers)}) + "\n")

    @property
    def classes(self) -> tuple[ClassSpec, ...]:
        """What is predicted."""
        return self.labellers[0].classes

    def members(self, images_BHWC: np.ndarray, *, seeds: Sequence[int]) -> Tensor:
        """Distributions KBCHW of real images; every labeller has the same number of members in K."""
        return _alike([labeller.members(images_BHWC, seeds=seeds) for labeller in self.labellers])

    def sample(self, seeds: Sequence[int], *, num_steps: int) -> tuple[np.ndarray, Tensor]:
        """The first draws and labels; the others look at what it drew."""
        images_BHWC, first_KBCHW = self.labellers[0].sample(seeds, num_steps=num_steps)
        others = [labeller.members(images_BHWC, seeds=seeds) for labeller in self.labellers[1:]]
        return images_BHWC, _alike([first_KBCHW, *others])


def _alike(answers: Sequence[Tensor]) -> Tensor:
    """Answers KBCHW of different K, each repeated until all weigh the same in the mean."""
    count = lcm(*(len(answer_KBCHW) for answer_KBCHW in answers))
    return torch.cat([answer_KBCHW.repeat(count // len(answer_KBCHW), 1, 1, 1, 1) for answer_KBCHW in answers])


def fit_labeller(
    kind: HeadKind,
    sources: Sequence[FeatureSource],
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: Any,
    *,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
    checkpoint_path: Path | None = None,
) -> FittedHead:
    """Fit a labeller of this kind on every source, one after the other (without any: one that needs none).

    Each reads those of `config.tap_blocks` that it has. Of several the card is the first one's with the steps and seconds
    of all, and under `beside` the cards of the others.
    With a checkpoint path the fit goes on with the source, and the step, at which it was stopped.
    """
    fits: list[FittedHead] = []
    parts: list[tuple[FeatureSource | None, Any]] = [(None, config)]
    if sources:
        blocks = own_blocks(sources, config.tap_blocks)
        parts = [(source, replace(config, tap_blocks=own)) for source, own in zip(sources, blocks, strict=True)]
    for index, (source, own) in enumerate(parts):
        path = checkpoint_path if index == 0 or checkpoint_path is None else _of_part(checkpoint_path, index)
        report = None if progress is None else _part(progress, index, max(1, len(sources)))
        fits.append(
            kind.fit(source, examples, classes, own, device=device, progress=report, stop=stop, checkpoint_path=path)
        )
    if len(fits) == 1:
        return fits[0]
    cards = [fitted.card for fitted in fits]
    costs = {name: sum(card[name] for card in cards) for name in ("steps", "seconds")}
    card = {**cards[0], **costs, "kind": Ensemble.kind, "beside": cards[1:]}
    return FittedHead(Ensemble([fitted.labeller for fitted in fits]), card)


def load_labeller(directory: Path, sources: Sequence[FeatureSource], device: torch.device | str = "cpu") -> Labeller:
    """Read a labeller by the kind in its `head.json`, on the sources it was fitted on."""
    said = json.loads((directory / CONFIG).read_text())
    if said["kind"] != Ensemble.kind:
        return HEAD_KINDS[said["kind"]].load(directory, sources[0] if sources else None, device)
    parts = range(said["labellers"])
    return Ensemble([load_labeller(directory / str(index), [sources[index]], device) for index in parts])


def _of_part(path: Path, index: int) -> Path:
    return path.with_suffix(f".{index}{path.suffix}")


def _part(progress: Progress, index: int, count: int) -> Progress:
    """Progress of one fit as its part of all."""

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        progress(index * total + done, count * total, metrics)

    return report
