"""Labellers on several sources of features that label together: their mean is the soft label.

A generator that has seen the user's images and an encoder that has seen everybody's err in different places, so that
the mean of their heads is better than either (docs/decisions/0033). A generator that cannot read images, a GAN, only
draws: the others label what it drew. Axes: B batch, C channel, H, W, K members.
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

from models.contracts import ClassSpec, FeatureSource, Generator, NotOffered, Progress, Stop
from models.examples import Example, to_uint8_images
from models.heads.fusion import CONFIG
from models.heads.kinds import HEAD_KINDS, HeadKind
from models.heads.tap_blocks import own_blocks
from models.labelling import FittedHead, Labeller


class Ensemble:
    """Implements `models.labelling.Labeller`; the first of its labellers draws the images, unless there is a painter."""

    kind = "ensemble"

    def __init__(self, labellers: Sequence[Labeller], *, painter: Generator | None = None) -> None:
        self.labellers = tuple(labellers)
        self.painter = painter
        """Draws the images and labels none."""
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
        """The first draws and labels; the others look at what it drew. All do at what a painter drew."""
        if self.painter is not None:
            image_BCHW, _ = self.painter.sample(seeds, num_steps=num_steps)
            drawn_BHWC = to_uint8_images(image_BCHW)
            return drawn_BHWC, self.members(drawn_BHWC, seeds=seeds)
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
    """Fit a labeller of this kind on every source that reads images, one after the other (without any: one that needs none).

    A first source that only draws is the painter of what the others label. Each reads those of `config.tap_blocks` that
    it has. Of several the card is the first one's with the steps and seconds of all, and under `beside` the cards of the
    others.
    With a checkpoint path the fit goes on with the source, and the step, at which it was stopped.
    """
    fits: list[FittedHead] = []
    parts: list[tuple[FeatureSource | None, Any]] = [(None, config)]
    painter, readers = split(sources)
    if readers:
        blocks = own_blocks(readers, config.tap_blocks)
        parts = [(source, replace(config, tap_blocks=own)) for source, own in zip(readers, blocks, strict=True)]
    for index, (source, own) in enumerate(parts):
        path = checkpoint_path if index == 0 or checkpoint_path is None else _of_part(checkpoint_path, index)
        report = None if progress is None else _part(progress, index, len(parts))
        fits.append(
            kind.fit(source, examples, classes, own, device=device, progress=report, stop=stop, checkpoint_path=path)
        )
    if len(fits) == 1 and painter is None:
        return fits[0]
    ensemble, cards = Ensemble([fitted.labeller for fitted in fits], painter=painter), [fitted.card for fitted in fits]
    if len(fits) == 1:
        return FittedHead(ensemble, cards[0])
    costs = {name: sum(card[name] for card in cards) for name in ("steps", "seconds")}
    return FittedHead(ensemble, {**cards[0], **costs, "kind": Ensemble.kind, "beside": cards[1:]})


def split(sources: Sequence[FeatureSource]) -> tuple[Generator | None, list[FeatureSource]]:
    """The painter, where the first source only draws, and the sources that heads are fitted on.

    Raises NotOffered where nothing reads images.
    """
    readers = [source for source in sources if source.can_encode]
    if sources and not readers:
        raise NotOffered(
            f"The family {sources[0].family} cannot read annotated images; let an encoder label beside it."
        )
    first = sources[0] if sources else None
    return (first if isinstance(first, Generator) and not first.can_encode else None), readers


def load_labeller(directory: Path, sources: Sequence[FeatureSource], device: torch.device | str = "cpu") -> Labeller:
    """Read a labeller by the kind in its `head.json`, on the sources it was fitted on."""
    said = json.loads((directory / CONFIG).read_text())
    if said["kind"] != Ensemble.kind:
        return HEAD_KINDS[said["kind"]].load(directory, sources[0] if sources else None, device)
    painter, readers = split(sources)
    labellers = [load_labeller(directory / str(index), [reader], device) for index, reader in enumerate(readers)]
    return Ensemble(labellers, painter=painter)


def _of_part(path: Path, index: int) -> Path:
    return path.with_suffix(f".{index}{path.suffix}")


def _part(progress: Progress, index: int, count: int) -> Progress:
    """Progress of one fit as its part of all."""

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        progress(index * total + done, count * total, metrics)

    return report
