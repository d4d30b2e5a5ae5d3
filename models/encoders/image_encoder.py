"""A frozen image encoder as a source of features: what a generator offers, without drawing and without noise.

The rival of a generator's features that everybody has at hand: a network trained on other people's images.
Axes: B batch, C channel, H height, W width. Images are float in [-1, 1], BCHW.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.contracts import Features
from models.encoders.networks import NETWORKS, EncoderNetwork
from models.generators.directory import check_files, read_facts, write_facts
from models.precision import mixed_precision

MAX_STRIDE = 16
"""Coarsest default tap, in image pixels: a small image has hardly a feature pixel beyond."""


@dataclass(frozen=True)
class EncoderFacts:
    """What `generator.json` says of an encoder."""

    network: str
    """Name in `models.encoders.networks.NETWORKS`."""
    image_size: tuple[int, int, int] | None = None
    """(C, H, W); C is 3. None: images of any size, which `for_images` tells."""
    tap_names: tuple[str, ...] = ()
    """Taps that `encode` returns; empty: the network's own, as far as they suit the image size."""
    input_scale: float | None = None
    """Images are enlarged by this before the network, so that small ones fill its grid; taps are finer by as much.
    None: what the network finds right for the image size."""

    def __post_init__(self) -> None:
        if self.input_scale is not None and self.input_scale <= 0:
            raise ValueError(f"input_scale must be more than 0, got {self.input_scale}")


class ImageEncoder:
    """Implements `models.contracts.FeatureSource` over a frozen network."""

    family = "encoder"
    can_sample = False
    can_encode = True
    tap_timestep = 0
    num_train_timesteps = 1

    def __init__(self, network: EncoderNetwork, facts: EncoderFacts) -> None:
        self.network, self.facts = network, facts
        self._computes = network.for_inference()
        if facts.image_size is not None:
            self._scale = facts.input_scale or network.input_scale(*facts.image_size[1:])
            self._taps = facts.tap_names or tuple(name for name in network.default_taps if self._suits(name))
            self._check()

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> Self:
        """Reads `generator.json` and the folder `network`.

        Raises UnsafeDirectory for code, pickles or links that leave it, OSError for missing files, ValueError for
        sizes, taps and networks that do not go together.
        """
        root = check_files(Path(directory))
        facts = read_facts(root, EncoderFacts)
        if facts.network not in NETWORKS:
            raise ValueError(f"generator.json: network is {facts.network}, expected one of {sorted(NETWORKS)}")
        return cls(NETWORKS[facts.network].load(root / "network"), facts).to(device)

    def save(self, directory: Path | str, *, card: Mapping[str, str] | None = None) -> None:
        """Writes `generator.json`, with a card for people where there is one, and the folder `network`."""
        root = Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        self.network.save(root / "network")
        facts = asdict(self.facts)
        write_facts(root, self.family, facts if card is None else {**facts, "card": dict(card)})

    def for_images(self, height: int, width: int) -> Self:
        """The same network for images of this size. Raises ValueError where the encoder is for another one."""
        if self.facts.image_size not in (None, (3, height, width)):
            raise ValueError(f"the encoder is for images of {self.facts.image_size}, these are {height}x{width}")
        return type(self)(self.network, replace(self.facts, image_size=(3, height, width)))

    def to(self, device: torch.device | str) -> Self:
        """Moves the network; results then lie on that device."""
        self.network.to(device)
        self._computes.to(device)
        return self

    @property
    def image_size(self) -> tuple[int, int, int]:
        """(C, H, W). Raises ValueError while it is open."""
        if self.facts.image_size is None:
            raise ValueError("the encoder takes images of any size: say which with for_images")
        return self.facts.image_size

    @property
    def tap_channels(self) -> dict[str, int]:
        """Selected tap -> channels, coarse to fine."""
        return {name: channels for name, channels in self.network.channels.items() if name in self._taps}

    @property
    def tap_strides(self) -> dict[str, int]:
        """Selected tap -> image pixels per feature pixel."""
        return {name: int(self._stride(name)) for name in self.tap_channels}

    @property
    def num_parameters(self) -> int:
        """Parameters of the network."""
        return sum(parameter.numel() for parameter in self.network.parameters())

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        device: torch.device = next(iter(self.network.parameters())).device
        return device

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor, *, tap_timestep: int | None = None, seeds: Sequence[int]) -> Features:
        """Features of real images; there is no noise, so the seeds change nothing and the only timestep is 0."""
        if tuple(images_BCHW.shape[1:]) != self.image_size or len(seeds) != len(images_BCHW):
            raise ValueError(f"expected {len(seeds)} images of {self.image_size}, got {tuple(images_BCHW.shape)}")
        if tap_timestep not in (None, 0):
            raise ValueError(f"an encoder has no noise: tap_timestep must be 0, got {tap_timestep}")
        input_BCHW = self._normalised(images_BCHW.to(self.device, torch.float32))
        with mixed_precision(self.device):
            maps = self._computes(input_BCHW.contiguous(memory_format=torch.channels_last), self._taps)
        return {name: self._on_grid(name, map_BCHW.float()) for name, map_BCHW in maps.items()}

    def _normalised(self, images_BCHW: Tensor) -> Tensor:
        """Images in [-1, 1] -> enlarged and in the units that the network was trained on."""
        mean_C, std_C = images_BCHW.new_tensor(self.network.mean), images_BCHW.new_tensor(self.network.std)
        if (size := self._input_size()) != tuple(images_BCHW.shape[2:]):
            images_BCHW = interpolate(images_BCHW, size=size, mode="bicubic", align_corners=False)
        return ((images_BCHW + 1) / 2 - mean_C[:, None, None]) / std_C[:, None, None]

    def _input_size(self) -> tuple[int, int]:
        """Enlarged, to the next size that every stride divides."""
        step = max(self.network.strides[name] for name in self._taps)
        height, width = (ceil(round(side * self._scale) / step) * step for side in self.image_size[1:])
        return height, width

    def _on_grid(self, name: str, map_BCHW: Tensor) -> Tensor:
        """A map over the whole image with as many feature pixels as its stride begins."""
        stride = int(self._stride(name))
        size = (-(-self.image_size[1] // stride), -(-self.image_size[2] // stride))
        if map_BCHW.shape[2:] == size:
            return map_BCHW
        return interpolate(map_BCHW, size=size, mode="bilinear", align_corners=False)

    def _stride(self, name: str) -> float:
        return self.network.strides[name] / self._scale

    def _suits(self, name: str) -> bool:
        stride = self._stride(name)
        return stride.is_integer() and stride <= MAX_STRIDE

    def _check(self) -> None:
        """Sizes and taps must go together; every message names the entry of `generator.json`."""
        channels = self.image_size[0]
        known = self.network.strides
        if channels != 3:
            raise ValueError(f"image_size has {channels} channels, an encoder sees 3")
        if not self._taps or (unknown := set(self._taps) - set(known)):
            wrong = f"unknown taps {sorted(unknown)}" if self._taps else "no tap suits image_size and input_scale"
            raise ValueError(f"tap_names: {wrong}, known are {tuple(known)}")
        fractions = [name for name in self._taps if not self._stride(name).is_integer()]
        if fractions:
            raise ValueError(f"input_scale {self._scale} gives {fractions[0]} no whole stride in the image")
