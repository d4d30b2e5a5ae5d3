"""The pixel classifier of DatasetGAN and DDPM-seg (method.md 4.1): K perceptrons on one pixel's features of all taps.

Every pixel's features are the generator's maps of several timesteps, bilinearly upsampled and concatenated (D channels);
each network is D-128-32-C (D-256-128-C from 32 outputs on) with ReLU, then BatchNorm, and weights drawn from N(0, 0.02).
No context beyond the features themselves is seen, and not the image.

Nothing is upsampled before the first layer. For whole images that layer runs at every map's own resolution and its
output is upsampled: a layer on single pixels and bilinear interpolation, whose weights sum to one, are linear maps of
different axes and commute, so this is exact and a map of 128 channels is all that ever has the image's size. For a
few pixels of a map (training) only these are interpolated.
Axes: B batch, C channel, H, W, K members, P pixels of an image, R rows (pixels of all images), D features of a pixel.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.contracts import ClassSpec, Features, FeatureSource
from models.heads.fusion import CONFIG, WEIGHTS
from models.instances import channel_classes

FEW_OUTPUTS = 32
"""Below so many outputs the small network is enough."""


@dataclass(frozen=True)
class PixelMLPConfig:
    """Everything needed to build the networks again."""

    tap_channels: dict[str, int]
    """Tap name -> channels of one pass, coarse to fine, as the generator gives them."""
    classes: tuple[ClassSpec, ...]
    """What is predicted: one output per class, then one per contour of a thing."""
    members: int = 10
    """Networks (the papers: 10)."""
    tap_timesteps: tuple[int, ...] = (50, 150, 250)
    """Timesteps whose features are concatenated, one pass of the generator each."""

    @property
    def num_features(self) -> int:
        """D."""
        return sum(self.tap_channels.values()) * len(self.tap_timesteps)

    @property
    def num_channels(self) -> int:
        """Outputs of every network."""
        return len(channel_classes(self.classes))


class PixelMLP(nn.Module):
    """One member: features of a pixel -> logits."""

    def __init__(self, num_features: int, num_outputs: int) -> None:
        super().__init__()
        wide, narrow = (128, 32) if num_outputs < FEW_OUTPUTS else (256, 128)
        self.first = nn.Linear(num_features, wide)
        self.rest = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(wide),
            nn.Linear(wide, narrow),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(narrow),
            nn.Linear(narrow, num_outputs),
        )
        self.apply(_normal_weights)

    def forward(self, row_RD: Tensor) -> Tensor:
        """Rows of features -> logits RC."""
        logits_RC: Tensor = self.rest(self.first(row_RD))
        return logits_RC

    def whole(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Maps BCHW whose channels together are D, at any resolutions -> logits BCHW at `size`."""
        parts = self.first.weight.split([map_BCHW.shape[1] for map_BCHW in maps], dim=1)
        hidden_BCHW = self.first.bias[:, None, None]
        for map_BCHW, part in zip(maps, parts, strict=True):
            hidden_BCHW = hidden_BCHW + _upsampled(functional.conv2d(map_BCHW, part[:, :, None, None]), size)
        hidden_BHWC = hidden_BCHW.permute(0, 2, 3, 1)
        logits_RC: Tensor = self.rest(hidden_BHWC.flatten(0, 2))
        return logits_RC.unflatten(0, hidden_BHWC.shape[:3]).permute(0, 3, 1, 2)


class PixelMLPs(nn.Module):
    """The ensemble, with the features' mean and spread measured once on the annotated images (`calibrate`)."""

    def __init__(self, config: PixelMLPConfig) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(PixelMLP(config.num_features, config.num_channels) for _ in range(config.members))
        self.register_buffer("mean", torch.zeros(config.num_features))
        self.register_buffer("scale", torch.ones(config.num_features))

    def calibrate(self, features: Features) -> None:
        """Take every feature's mean and spread from a batch."""
        maps = [features[name].float() for name in self.config.tap_channels]
        self.mean = torch.cat([map_BCHW.mean((0, 2, 3)) for map_BCHW in maps])
        self.scale = 1.0 / torch.cat([map_BCHW.std((0, 2, 3)) for map_BCHW in maps]).clamp_min(1e-3)

    def forward(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Features of whole images -> logits KBCHW at (height, width)."""
        # Channels last: what is upsampled lies as the rows that the next layer reads.
        maps = [map_BCHW.contiguous(memory_format=torch.channels_last) for map_BCHW in self._standardised(features)]
        return torch.stack([member.whole(maps, size) for member in self._networks()]).float()

    def at_pixels(self, features: Features, place_BKP2: Tensor) -> list[Tensor]:
        """Logits of single pixels, each member's own, RC with R = B x P.

        `place_BKP2` is (x, y) in [-1, 1] of the image's corners, as `grid_sample` has it.
        """
        row_BDKP = torch.cat([_interpolated(map_BCHW, place_BKP2) for map_BCHW in self._standardised(features)], dim=1)
        rows_KRD = row_BDKP.permute(2, 0, 3, 1).flatten(1, 2)
        return [member(row_RD) for member, row_RD in zip(self._networks(), rows_KRD, strict=True)]

    def _networks(self) -> list[PixelMLP]:
        return [member for member in self.members if isinstance(member, PixelMLP)]

    def _standardised(self, features: Features) -> list[Tensor]:
        maps = [features[name] for name in self.config.tap_channels]
        sizes = [map_BCHW.shape[1] for map_BCHW in maps]
        return [
            (map_BCHW - mean_C[:, None, None]) * scale_C[:, None, None]
            for map_BCHW, mean_C, scale_C in zip(maps, self.mean.split(sizes), self.scale.split(sizes), strict=True)
        ]

    def save(self, directory: Path) -> None:
        """Write `head.safetensors` and `head.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, directory / WEIGHTS)
        (directory / CONFIG).write_text(json.dumps({"kind": "pixel_mlp", **asdict(self.config)}, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> Self:
        """Read what `save` wrote, ready to predict."""
        fields: dict[str, Any] = json.loads((directory / CONFIG).read_text())
        del fields["kind"]
        fields["tap_timesteps"] = tuple(fields["tap_timesteps"])
        fields["classes"] = tuple(ClassSpec(**spec) for spec in fields["classes"])
        networks = cls(PixelMLPConfig(**fields))
        networks.load_state_dict(load_file(directory / WEIGHTS))
        networks.to(device).eval()
        return networks


def encode_at_all(
    generator: FeatureSource, image_BCHW: Tensor, tap_timesteps: Sequence[int], *, seeds: Sequence[int]
) -> Features:
    """Every tap's maps of all timesteps, concatenated channel-wise at the tap's own resolution; the same noise in each."""
    passes: list[Mapping[str, Tensor]] = [
        generator.encode(image_BCHW, tap_timestep=timestep, seeds=seeds) for timestep in tap_timesteps
    ]
    return {name: torch.cat([maps[name] for maps in passes], dim=1) for name in passes[0]}


def _interpolated(map_BCHW: Tensor, place_BKP2: Tensor) -> Tensor:
    """The map's values at places, BCKP; the same numbers as an upsampled map has there."""
    return functional.grid_sample(map_BCHW.float(), place_BKP2, padding_mode="border", align_corners=False)


def _upsampled(map_BCHW: Tensor, size: tuple[int, int]) -> Tensor:
    if map_BCHW.shape[-2:] == size:
        return map_BCHW
    return functional.interpolate(map_BCHW, size=size, mode="bilinear", align_corners=False)


def _normal_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d):
        nn.init.normal_(module.weight, 1.0, 0.02)
