"""The fusion interpreter (DreamTeacher 3.2; method.md 1.4) with K members on one trunk.

Per level, coarse to fine: 1x1 to a common width, bilinear upsampling of what was fused before, concatenation, depth-wise
separable convolution, GroupNorm, SiLU. The image itself belongs to the finest level, since generator maps may end at half
resolution and a membrane is two pixels wide. Everything runs at `work_stride`: finer maps are folded into channels
(pixel-unshuffle) and the logits unfolded again, a quarter of the cost with every pixel still seen and predicted.
Axes: B batch, C channel, H, W, K members.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.contracts import ClassSpec, Features
from models.instances import channel_classes

WEIGHTS = "head.safetensors"
CONFIG = "head.json"


@dataclass(frozen=True)
class FusionConfig:
    """Everything needed to build the head again."""

    tap_channels: dict[str, int]
    """Tap name -> channels, coarse to fine, as the generator gives them."""
    tap_strides: dict[str, int]
    """Tap name -> image pixels per feature pixel."""
    classes: tuple[ClassSpec, ...]
    """What is predicted: one output per class, then one per contour of a thing."""
    width: int = 64
    members: int = 4
    dropout: float = 0.1
    work_stride: int = 2
    """Image pixels per pixel of the finest level inside the head."""
    tap_timesteps: tuple[int, ...] = (40,)
    """Timesteps of the features it was fitted on."""
    mirror: bool = False
    """Whether an image and its mirror image mean the same, so that labels may be averaged over both."""

    @property
    def tap_timestep(self) -> int:
        """Timestep at which a sampling run is tapped: the middle one."""
        return sorted(self.tap_timesteps)[len(self.tap_timesteps) // 2]

    @property
    def num_channels(self) -> int:
        """Outputs of the head."""
        return len(channel_classes(self.classes))

    def levels(self) -> dict[int, list[str]]:
        """Stride inside the head -> taps read at it, coarse to fine; the finest level always exists."""
        grouped: dict[int, list[str]] = {}
        for name, stride in self.tap_strides.items():
            grouped.setdefault(max(stride, self.work_stride), []).append(name)
        grouped.setdefault(self.work_stride, [])
        return dict(sorted(grouped.items(), reverse=True))

    def folded_channels(self, name: str) -> int:
        """Channels of a tap after folding what is finer than the work stride."""
        return self.tap_channels[name] * max(1, self.work_stride // self.tap_strides[name]) ** 2


class FusionHead(nn.Module):
    """K label predictors that share the fused features."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        width, fold = config.width, config.work_stride**2
        # Features are standardised by statistics measured once on the annotated images (`calibrate`).
        for name, channels in config.tap_channels.items():
            self.register_buffer(_buffer("mean", name), torch.zeros(channels))
            self.register_buffer(_buffer("scale", name), torch.ones(channels))
        self.projections, self.fusions = nn.ModuleList(), nn.ModuleList()
        for index, names in enumerate(config.levels().values()):
            channels = sum(config.folded_channels(name) for name in names)
            finest = index == len(config.levels()) - 1
            # The finest level reads the folded pixels too, by 3x3: one pixel's neighbours lie in the next fold.
            self.projections.append(
                nn.Conv2d(channels + 3 * fold, width, 3, padding=1) if finest else nn.Conv2d(channels, width, 1)
            )
            if index:
                self.fusions.append(_separable(2 * width, width))
        self.members = nn.ModuleList(self._member(fold) for _ in range(config.members))

    def _member(self, fold: int) -> nn.Module:
        width = self.config.width
        return nn.Sequential(
            nn.Dropout2d(self.config.dropout),
            _separable(width, width),
            nn.Conv2d(width, self.config.num_channels * fold, 1),
            nn.PixelShuffle(self.config.work_stride),
        )

    def calibrate(self, features: Mapping[str, Tensor]) -> None:
        """Take each feature channel's mean and spread from a batch of features."""
        for name in self.config.tap_channels:
            values_BCHW = features[name].float()
            getattr(self, _buffer("mean", name)).copy_(values_BCHW.mean((0, 2, 3)))
            getattr(self, _buffer("scale", name)).copy_(1.0 / values_BCHW.std((0, 2, 3)).clamp_min(1e-3))

    def forward(self, features: Features, image_BCHW: Tensor) -> Tensor:
        """Features and the image in [-1, 1] they belong to -> logits KBCHW at the image's size."""
        fused_BCHW: Tensor | None = None
        pixels_BCHW = functional.pixel_unshuffle(image_BCHW, self.config.work_stride)
        for index, (stride, names) in enumerate(self.config.levels().items()):
            maps = [self._standardised(name, features[name]) for name in names]
            if stride == self.config.work_stride:
                maps.append(pixels_BCHW)
            level_BCHW = self.projections[index](torch.cat(maps, dim=1).contiguous(memory_format=torch.channels_last))
            if fused_BCHW is not None:
                level_BCHW = self.fusions[index - 1](torch.cat([_resized(fused_BCHW, level_BCHW), level_BCHW], dim=1))
            fused_BCHW = level_BCHW
        return torch.stack([member(fused_BCHW) for member in self.members]).float()

    def _standardised(self, name: str, value_BCHW: Tensor) -> Tensor:
        mean_C, scale_C = getattr(self, _buffer("mean", name)), getattr(self, _buffer("scale", name))
        value_BCHW = ((value_BCHW - mean_C[None, :, None, None]) * scale_C[None, :, None, None]).clamp(-8.0, 8.0)
        fold = self.config.work_stride // self.config.tap_strides[name]
        return functional.pixel_unshuffle(value_BCHW, fold) if fold > 1 else value_BCHW

    def save(self, directory: Path) -> None:
        """Write `head.safetensors` and `head.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, directory / WEIGHTS)
        (directory / CONFIG).write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> Self:
        """Read what `save` wrote, ready to predict."""
        fields: dict[str, Any] = json.loads((directory / CONFIG).read_text())
        fields["tap_timesteps"] = tuple(fields["tap_timesteps"])
        fields["classes"] = tuple(ClassSpec(**spec) for spec in fields["classes"])
        head = cls(FusionConfig(**fields))
        head.load_state_dict(load_file(directory / WEIGHTS))
        head.to(device).to(memory_format=torch.channels_last).eval()
        return head


def _buffer(kind: str, tap: str) -> str:
    return f"{kind}_{tap.replace('.', '_')}"


def _separable(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
    )


def _resized(value_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    if value_BCHW.shape[-2:] == like_BCHW.shape[-2:]:
        return value_BCHW
    return functional.interpolate(value_BCHW, size=like_BCHW.shape[-2:], mode="bilinear", align_corners=False)
