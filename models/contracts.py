"""What the parts of `models` promise each other.

Axes in tensor names: B batch, C channel, H height, W width, K members, N classes.
Images are float in [-1, 1], BCHW. Label maps are long BHW with IGNORE = 255.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

IGNORE = 255

Features = dict[str, Tensor]
"""Tap name -> float32 feature map BCHW at its native resolution, in order from coarse to fine."""

Progress = Callable[[int, int, Mapping[str, float]], None]
"""`progress(done, total, metrics)`: called between batches, never inside one."""

Stop = Callable[[], bool]
"""Polled between batches; True asks the work to checkpoint and raise `Stopped`."""


class Stopped(Exception):  # noqa: N818 - not an error
    """The work was asked to stop; what was done is in its last checkpoint."""


class NotOffered(NotImplementedError):  # noqa: N818 - a fact of the family, not a fault
    """A generator of this family cannot do what was asked; the message says why and what to do."""


@dataclass(frozen=True)
class ClassSpec:
    """One class of an annotation set; its index is its place in the list of classes."""

    name: str
    thing: bool = False
    """Things are counted one by one (instances); everything else is stuff."""
    background: bool = False
    """The background class is predicted but is no category of an export."""


class FeatureSource(Protocol):
    """A frozen network that gives features of real images: what heads are fitted on and feature distillation regresses.

    Everything is without gradient. The same image and seed give the same features in a batch of any size, up to
    rounding of the order of the arithmetic's precision.
    """

    family: str
    can_sample: bool
    """Whether it draws images: then it is a `Generator`."""
    can_encode: bool
    """Whether it gives the features of real images; where not, `encode` raises NotOffered."""

    @property
    def image_size(self) -> tuple[int, int, int]:
        """(C, H, W) of every image encoded or drawn."""

    @property
    def tap_channels(self) -> dict[str, int]:
        """Tap name -> channels, coarse to fine: exactly the maps that `encode` and `sample` return."""

    @property
    def tap_strides(self) -> dict[str, int]:
        """Tap name -> image pixels per feature pixel, in the same order."""

    @property
    def tap_timestep(self) -> int:
        """The timestep read when the caller names none, in [0, num_train_timesteps)."""

    @property
    def num_train_timesteps(self) -> int:
        """Length of the diffusion it was trained on, 1000 for most; 1: no diffusion, `encode` adds no noise."""

    @property
    def num_parameters(self) -> int:
        """Parameters of the network."""

    @property
    def device(self) -> torch.device:
        """Where it computes and where its results lie."""

    def encode(self, images_BCHW: Tensor, *, tap_timestep: int | None = None, seeds: Sequence[int]) -> Features:
        """Features of real images: noise to `tap_timestep` with one seed per image, then one denoising pass.

        A source without diffusion takes the images as they are, whatever the seeds.
        """

    def save(self, directory: Path) -> None:
        """Writes a directory that `load` of the same family reads."""


@runtime_checkable
class Generator(FeatureSource, Protocol):
    """Draws images and yields its own features on the way (method.md 1.2, 4.6; design section 4).

    The same seed gives the same image and features in a batch of any size, up to rounding as above.
    """

    def sample(
        self, seeds: Sequence[int], *, num_steps: int = 50, tap_timestep: int | None = None
    ) -> tuple[Tensor, Features]:
        """Draws one image per seed; the features ride along, recorded at the step nearest `tap_timestep`.

        Returns images_BCHW in [-1, 1] and their features. Costs `num_steps` passes of the network, no more.
        """
