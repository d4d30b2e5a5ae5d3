"""A StyleGAN2 generator: draws images and yields its synthesis maps; it cannot encode (DatasetGAN; method.md 1.1).

Axes: B batch, C channel, H height, W width. Images are float in [-1, 1], BCHW, and square.
A directory holds `model.safetensors` (the state dict of `G_ema`, unconditional) and `generator.json`; all sizes are read
from the weights. Everything of an image follows from its seed: z and the noise of every layer.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.contracts import Features, NotOffered
from models.generators.directory import check_files, read_facts, write_facts
from models.generators.stylegan2_network import StyleGAN2Network, StyleGAN2Shape
from models.generators.taps import Tap, Taps

WEIGHTS_FILE = "model.safetensors"
MEAN_DRAWS = 1024
"""Draws of z whose mean w a generator with random weights keeps."""


@dataclass(kw_only=True)
class StyleFacts:
    """What `generator.json` adds to the weights."""

    image_size: tuple[int, int, int]
    """(C, H, W)."""
    tap_names: tuple[str, ...]
    """Taps that `sample` returns, coarse to fine."""
    truncation: float = 0.7
    """How far w may lie from its mean: 1 all the way, 0 always the mean image."""
    training: dict[str, Any] = field(default_factory=dict)
    """What is known of its making."""

    def __post_init__(self) -> None:
        if not 0 <= self.truncation <= 1:
            raise ValueError(f"truncation must be in [0, 1], got {self.truncation}")


class StyleGAN2Generator:
    """Implements `models.contracts.Generator` for StyleGAN2; a diffusion of one timestep, as it were."""

    family = "stylegan2"
    can_sample = True
    can_encode = False

    def __init__(self, network: StyleGAN2Network, facts: StyleFacts) -> None:
        shape = network.shape
        made = (shape.image_channels, shape.sides[-1], shape.sides[-1])
        if tuple(facts.image_size) != made:
            raise ValueError(f"generator.json: image_size is {list(facts.image_size)}, the weights make {list(made)}")
        self.network = network.eval().requires_grad_(False)
        self.facts = facts
        self._taps = Taps(synthesis_taps(network))
        self.select_taps(facts.tap_names)

    @classmethod
    def build(cls, shape: StyleGAN2Shape, *, seed: int = 0) -> Self:
        """A generator with random weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = StyleGAN2Network(shape)
            with torch.no_grad():
                network.mapping.w_avg.copy_(network.mapping(torch.randn(MEAN_DRAWS, shape.z_dim)).mean(dim=0))
        size = (shape.image_channels, shape.sides[-1], shape.sides[-1])
        return cls(network, StyleFacts(image_size=size, tap_names=tuple(synthesis_taps(network))))

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> Self:
        """Reads a local directory.

        Raises UnsafeDirectory for code, pickles and links that leave it, OSError for missing files, ValueError for
        weights of another network.
        """
        root = check_files(Path(directory))
        weights = load_file(root / WEIGHTS_FILE)
        network = StyleGAN2Network(StyleGAN2Shape.of(weights))
        # The fixed noise of the authors' previews: here the noise follows the seed.
        weights = {name: value.float() for name, value in weights.items() if not name.endswith(".noise_const")}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{WEIGHTS_FILE} holds another network than a StyleGAN2 with skips: {error}") from None
        facts = read_facts(root, StyleFacts, tap_names=list(synthesis_taps(network)))
        return cls(network, facts).to(device)

    def save(self, directory: Path | str) -> None:
        """Writes float16 safetensors and `generator.json`."""
        root = Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        weights = {name: value.half().cpu().contiguous() for name, value in self.network.state_dict().items()}
        save_file(weights, root / WEIGHTS_FILE)
        write_facts(root, self.family, asdict(self.facts))

    def to(self, device: torch.device | str) -> Self:
        """Moves the network; results then lie on that device."""
        self.network.to(device)
        return self

    # --- what it is --------------------------------------------------------------------------------------------

    @property
    def image_size(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.facts.image_size

    @property
    def tap_timestep(self) -> int:
        """There is but one."""
        return 0

    @property
    def num_train_timesteps(self) -> int:
        """One: an image is drawn in a single pass."""
        return 1

    @property
    def num_parameters(self) -> int:
        """Parameters of mapping and synthesis."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.network.mapping.w_avg.device

    @property
    def tap_channels(self) -> dict[str, int]:
        """Selected tap -> channels, coarse to fine."""
        return {name: self._taps.channels[name] for name in self.facts.tap_names}

    @property
    def tap_strides(self) -> dict[str, int]:
        """Selected tap -> image pixels per feature pixel."""
        return {name: self._taps.strides[name] for name in self.facts.tap_names}

    def select_taps(self, names: Sequence[str]) -> None:
        """Chooses which taps are returned; kept by `save`. Raises ValueError for an unknown name."""
        known = tuple(self._taps.channels)
        unknown = set(names) - set(known)
        if unknown or not names:
            raise ValueError(f"unknown taps {sorted(unknown)}, known are {known}")
        self.facts.tap_names = tuple(name for name in known if name in names)
        self._taps.select(self.facts.tap_names)

    # --- drawing -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self, seeds: Sequence[int], *, num_steps: int = 1, tap_timestep: int | None = None
    ) -> tuple[Tensor, Features]:
        """One image per seed in one pass, and its synthesis maps; `num_steps` counts for diffusions only.

        Returns images_BCHW float32 in [-1, 1] and features. Raises ValueError for a timestep other than 0.
        """
        del num_steps
        if tap_timestep not in (None, 0):
            raise ValueError(f"tap_timestep must be 0, a GAN has no other; got {tap_timestep}")
        z_BZ, noises = self._drawn(seeds)
        with self._taps.recording() as recorded:
            w_BD = self.network.mapping(z_BZ, self.facts.truncation)
            image_BCHW = self.network.synthesis(w_BD, noises)
        return image_BCHW.clamp(-1, 1), {name: recorded[name] for name in self.facts.tap_names}

    def encode(self, images_BCHW: Tensor, *, tap_timestep: int | None = None, seeds: Sequence[int]) -> Features:
        """Raises NotOffered: a GAN knows no way from an image to its features."""
        del images_BCHW, tap_timestep, seeds
        raise NotOffered(
            "A StyleGAN2 cannot encode real images, so no head can be fitted on images you annotated; let a frozen encoder "
            "label what it draws, or use a generator of another family."
        )

    def _drawn(self, seeds: Sequence[int]) -> tuple[Tensor, dict[int, list[Tensor]]]:
        """z and every layer's noise, drawn image by image on the processor so that batches and devices agree."""
        shape = self.network.shape
        z_BZ: list[Tensor] = []
        noises: dict[int, list[list[Tensor]]] = {side: [] for side in shape.sides}
        for seed in seeds:
            draw = torch.Generator().manual_seed(seed)
            z_BZ.append(torch.randn(shape.z_dim, generator=draw))
            for side in shape.sides:
                noises[side].append([torch.randn(1, side, side, generator=draw) for _ in range(2)])
        stacked = {
            side: [torch.stack(layer).to(self.device) for layer in zip(*drawn, strict=True)]
            for side, drawn in noises.items()
        }
        return torch.stack(z_BZ).to(self.device), stacked


def synthesis_taps(network: StyleGAN2Network) -> dict[str, Tap]:
    """The last convolution of every side, coarse to fine."""
    shape = network.shape
    return {
        f"b{side}": Tap(network.synthesis.get_submodule(f"b{side}.conv1"), channels, shape.sides[-1] // side)
        for side, channels in zip(shape.sides, shape.channels, strict=True)
    }
