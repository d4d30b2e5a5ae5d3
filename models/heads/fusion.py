"""The fusion interpreter (DreamTeacher 3.2; method.md 1.4) with K members on one trunk.

Per level, coarse to fine: 1x1 to a common width, bilinear upsampling of what was fused before, concatenation, depth-wise
separable convolution, GroupNorm, SiLU. The image itself is the finest level, since generator maps end at half
resolution and a membrane is two pixels wide. Axes: B batch, C channel, H, W, K members.
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
    classes: tuple[ClassSpec, ...]
    """What is predicted: one output per class, then one per contour of a thing."""
    width: int = 64
    members: int = 4
    dropout: float = 0.1
    tap_timestep: int = 50
    """Timestep at which the features must be read."""
    mirror: bool = False
    """Whether an image and its mirror image mean the same, so that labels may be averaged over both."""

    @property
    def num_channels(self) -> int:
        """Outputs of the head."""
        return len(channel_classes(self.classes))


class FusionHead(nn.Module):
    """K label predictors that share the fused features."""

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        # Features are standardised by statistics measured once on the annotated images (`calibrate`).
        for name, channels in config.tap_channels.items():
            self.register_buffer(_buffer("mean", name), torch.zeros(channels))
            self.register_buffer(_buffer("scale", name), torch.ones(channels))
        self.projections = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in config.tap_channels.values())
        self.fusions = nn.ModuleList(_separable(2 * width, width) for _ in list(config.tap_channels)[1:])
        self.pixels = nn.Sequential(nn.Conv2d(3, width // 2, 3, padding=1), nn.GroupNorm(8, width // 2), nn.SiLU())
        self.last_fusion = _separable(width + width // 2, width)
        self.members = nn.ModuleList(self._member() for _ in range(config.members))

    def _member(self) -> nn.Module:
        width = self.config.width
        return nn.Sequential(
            nn.Dropout2d(self.config.dropout), _separable(width, width), nn.Conv2d(width, self.config.num_channels, 1)
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
        for index, (name, projection) in enumerate(zip(self.config.tap_channels, self.projections, strict=True)):
            level_BCHW = projection(self._standardised(name, features[name]))
            if fused_BCHW is None:
                fused_BCHW = level_BCHW
            else:
                fused_BCHW = self.fusions[index - 1](torch.cat([_resized(fused_BCHW, level_BCHW), level_BCHW], dim=1))
        pixels_BCHW = self.pixels(image_BCHW.contiguous(memory_format=torch.channels_last))
        if fused_BCHW is None:
            raise ValueError("A fusion head needs at least one tap.")
        fused_BCHW = self.last_fusion(torch.cat([_resized(fused_BCHW, pixels_BCHW), pixels_BCHW], dim=1))
        return torch.stack([member(fused_BCHW) for member in self.members]).float()

    def _standardised(self, name: str, value_BCHW: Tensor) -> Tensor:
        mean_C, scale_C = getattr(self, _buffer("mean", name)), getattr(self, _buffer("scale", name))
        value_BCHW = (value_BCHW - mean_C[None, :, None, None]) * scale_C[None, :, None, None]
        return value_BCHW.clamp(-8.0, 8.0).contiguous(memory_format=torch.channels_last)

    def save(self, directory: Path) -> None:
        """Write `head.safetensors` and `head.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, directory / WEIGHTS)
        (directory / CONFIG).write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> Self:
        """Read what `save` wrote, ready to predict."""
        fields: dict[str, Any] = json.loads((directory / CONFIG).read_text())
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
