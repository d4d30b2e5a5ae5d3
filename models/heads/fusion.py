"""The fusion interpreter (DreamTeacher 3.2; method.md 1.4) with K members on one trunk.

Per level, coarse to fine: 1x1 to a common width, bilinear upsampling of what was fused before, concatenation, two 3x3
convolutions with BatchNorm and ReLU. (The paper's depth-wise convolutions with GroupNorm learn too slowly from five
images in under two minutes.) The image itself is seen at the finest level only, for borders that are two pixels wide:
what a region *is* must come from the generator, whose features five images cannot overfit as they do a network of
their own (docs/decisions/0005). Everything runs at `work_stride`: finer maps are folded into channels (pixel-unshuffle)
and the logits unfolded again, a quarter of the cost with every pixel still seen and predicted.
Axes: B batch, C channel, H, W, K members.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
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


def middle_timestep(tap_timesteps: Sequence[int]) -> int:
    """Of several timesteps the one that stands for all where only one can be read."""
    return sorted(tap_timesteps)[len(tap_timesteps) // 2]


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
    """Dropout of whole channels before every member."""
    feature_dropout: float = 0.3
    """Dropout of whole generator channels in training: a few images can be recognised by single channels."""
    work_stride: int = 2
    """Image pixels per pixel of the finest level inside the head."""
    tap_timesteps: tuple[int, ...] = (40,)
    """Timesteps of the features it was fitted on."""
    mirror: bool = False
    """Whether an image and its mirror image mean the same, so that labels may be averaged over both."""
    upside_down: bool = False
    """Whether an image turned over, top to bottom, means the same, too."""

    @property
    def tap_timestep(self) -> int:
        """Timestep at which a sampling run is tapped: the middle one."""
        return middle_timestep(self.tap_timesteps)

    @property
    def num_channels(self) -> int:
        """Outputs of the head."""
        return len(channel_classes(self.classes))

    def levels(self) -> dict[int, list[str]]:
        """Stride inside the head -> taps read at it, coarse to fine; the work stride is always the last."""
        grouped: dict[int, list[str]] = {}
        for name, stride in sorted(self.tap_strides.items(), key=lambda item: -item[1]):
            grouped.setdefault(max(stride, self.work_stride), []).append(name)
        grouped.setdefault(self.work_stride, [])
        return grouped

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
        self.pixels = nn.Sequential(_block(3 * fold, width), _block(width, width))
        self.projections, self.fusions = nn.ModuleList(), nn.ModuleList()
        for stride, names in config.levels().items():
            channels = sum(config.folded_channels(name) for name in names)
            channels += width if stride == config.work_stride else 0
            self.projections.append(nn.Conv2d(channels, width, 1))
            self.fusions.append(nn.Sequential(_block(2 * width, width), _block(width, width)))
        self.members = nn.ModuleList(self._member(fold) for _ in range(config.members))

    def _member(self, fold: int) -> nn.Module:
        width = self.config.width
        return nn.Sequential(
            nn.Dropout2d(self.config.dropout),
            _block(width, width),
            nn.Conv2d(width, self.config.num_channels * fold, 1),
            nn.PixelShuffle(self.config.work_stride),
        )

    def calibrate(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Take each feature channel's mean and spread from batches of features of one size, held one at a time."""
        moments: dict[str, list[Tensor]] = {name: [] for name in self.config.tap_channels}
        for features in batches:
            for name, found in moments.items():
                variance_C, mean_C = torch.var_mean(features[name].float(), dim=(0, 2, 3), correction=0)
                found.append(torch.stack([mean_C, variance_C + mean_C.square()]).double())
        for name, found in moments.items():
            mean_C, square_C = torch.stack(found).mean(dim=0)  # batches are of one size
            spread_C = (square_C - mean_C.square()).clamp_min(0).sqrt()
            getattr(self, _buffer("mean", name)).copy_(mean_C)
            getattr(self, _buffer("scale", name)).copy_(1.0 / spread_C.clamp_min(1e-3))

    def forward(self, features: Features, image_BCHW: Tensor) -> Tensor:
        """Features and the image in [-1, 1] they belong to -> logits KBCHW at the image's size."""
        pixels_BCHW = _folded(image_BCHW, self.config.work_stride)
        pixels_BCHW = self.pixels(pixels_BCHW.contiguous(memory_format=torch.channels_last))
        fused_BCHW: Tensor | None = None
        levels = self.config.levels()
        for (stride, names), project, fuse in zip(levels.items(), self.projections, self.fusions, strict=True):
            maps = [self._standardised(name, features[name]) for name in names]
            level_BCHW = project(torch.cat([*maps, pixels_BCHW] if stride == self.config.work_stride else maps, dim=1))
            if fused_BCHW is None:
                fused_BCHW = level_BCHW.mean(dim=(2, 3), keepdim=True).expand_as(level_BCHW)
            fused_BCHW = fuse(torch.cat([_resized(fused_BCHW, level_BCHW), level_BCHW], dim=1))
        height, width = image_BCHW.shape[-2:]
        return torch.stack([member(fused_BCHW)[..., :height, :width] for member in self.members]).float()

    def _standardised(self, name: str, value_BCHW: Tensor) -> Tensor:
        mean_C, scale_C = getattr(self, _buffer("mean", name)), getattr(self, _buffer("scale", name))
        value_BCHW = ((value_BCHW - mean_C[None, :, None, None]) * scale_C[None, :, None, None]).clamp(-8.0, 8.0)
        value_BCHW = functional.dropout2d(value_BCHW, self.config.feature_dropout, self.training)
        fold = self.config.work_stride // self.config.tap_strides[name]
        return _folded(value_BCHW, fold) if fold > 1 else value_BCHW

    def save(self, directory: Path) -> None:
        """Write `head.safetensors` and `head.json`."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, directory / WEIGHTS)
        (directory / CONFIG).write_text(json.dumps({"kind": "fusion", **asdict(self.config)}, indent=2) + "\n")

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> Self:
        """Read what `save` wrote, ready to predict."""
        fields: dict[str, Any] = json.loads((directory / CONFIG).read_text())
        del fields["kind"]
        fields["tap_timesteps"] = tuple(fields["tap_timesteps"])
        fields["classes"] = tuple(ClassSpec(**spec) for spec in fields["classes"])
        head = cls(FusionConfig(**fields))
        head.load_state_dict(load_file(directory / WEIGHTS))
        head.to(device).to(memory_format=torch.channels_last).eval()
        return head


def _buffer(kind: str, tap: str) -> str:
    return f"{kind}_{tap.replace('.', '_')}"


def _block(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _folded(value_BCHW: Tensor, fold: int) -> Tensor:
    """Pixels folded into channels; sides that `fold` does not divide are filled up with their last pixels."""
    bottom, right = (-side % fold for side in value_BCHW.shape[-2:])
    if bottom or right:
        value_BCHW = functional.pad(value_BCHW, (0, right, 0, bottom), mode="replicate")
    return functional.pixel_unshuffle(value_BCHW, fold)


def _resized(value_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    if value_BCHW.shape[-2:] == like_BCHW.shape[-2:]:
        return value_BCHW
    return functional.interpolate(value_BCHW, size=like_BCHW.shape[-2:], mode="bilinear", align_corners=False)
