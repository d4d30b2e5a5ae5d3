"""EfficientNet-Lite0: an ImageNet network of a few million weights without squeeze-excitation, made for small machines.

Blocks and sizes: Tan & Le 2019, table 1, with the changes of the Lite variants (ReLU6, no squeeze-excitation); trained
in TensorFlow, whose SAME padding puts the odd pixel behind. The classifier is left out: only maps are read.
Axes: B batch, C channel, H height, W width.
"""

import copy
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.contracts import Features

WEIGHTS = "model.safetensors"
SMALLEST_INPUT = 128
"""Pixels of the shorter side from which images are seen as they are: smaller ones lose what the network could tell of
them (docs/decisions/0031)."""
STEM_CHANNELS = 32
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""(blocks, kernel, stride of the first block, expansion, channels) of every stage."""


class EfficientNetLite(nn.Module):
    """Stem and inverted-residual blocks; tap `block{i}` is the output of block i. Always in evaluation mode."""

    mean = (127.0 / 255,) * 3
    std = (128.0 / 255,) * 3

    def __init__(self) -> None:
        super().__init__()
        self.stem = _unit(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels, stride = STEM_CHANNELS, 2
        tapped: list[tuple[str, int, int]] = []
        for repeats, kernel, first_stride, expansion, outputs in STAGES:
            for repeat in range(repeats):
                block_stride = first_stride if repeat == 0 else 1
                self.blocks.append(_InvertedResidual(channels, outputs, kernel, block_stride, expansion))
                channels, stride = outputs, stride * block_stride
                tapped.append((f"block{len(tapped)}", channels, stride))
        self.channels = {name: channels for name, channels, _ in reversed(tapped)}
        self.strides = {name: stride for name, _, stride in reversed(tapped)}
        self.eval().requires_grad_(False)

    def input_scale(self, height: int, width: int) -> float:
        """The power of two that brings the shorter side to SMALLEST_INPUT."""
        scale = 1.0
        while min(height, width) * scale < SMALLEST_INPUT:
            scale *= 2
        return scale

    @property
    def default_taps(self) -> tuple[str, ...]:
        """The last block of every resolution, coarse to fine."""
        deepest: dict[int, str] = {}
        for name, stride in self.strides.items():
            deepest.setdefault(stride, name)
        return tuple(deepest.values())

    def forward(self, input_BCHW: Tensor, taps: Collection[str]) -> Features:
        """Normalised images whose sides are multiples of the coarsest tap's stride -> those taps, coarse to fine."""
        x_BCHW, recorded = self.stem(input_BCHW), {}
        for index, block in enumerate(self.blocks):
            x_BCHW = block(x_BCHW)
            if (name := f"block{index}") in taps:
                recorded[name] = x_BCHW
            if len(recorded) == len(taps):
                break
        return {name: recorded[name] for name in self.channels if name in recorded}

    def for_inference(self) -> Self:
        """A copy with every norm folded into its convolution and channels last in memory: the same maps in half the time."""
        copied = copy.deepcopy(self)
        for unit in [module for module in copied.modules() if isinstance(module, nn.Sequential)]:
            layers: Any = unit
            layers.convolution = fuse_conv_bn_eval(layers.convolution, layers.norm)
            layers.norm = nn.Identity()
        copied.to(memory_format=torch.channels_last)
        return copied

    def save(self, directory: Path) -> None:
        """Writes `model.safetensors`."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file({name: value.cpu().contiguous() for name, value in self.state_dict().items()}, directory / WEIGHTS)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Reads what `save` wrote; raises RuntimeError for weights of another network."""
        network = cls()
        network.load_state_dict(load_file(directory / WEIGHTS))
        return network


class _InvertedResidual(nn.Module):
    """1x1 expansion, depth-wise convolution, linear 1x1 projection (Sandler et al. 2018, section 3.3)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expand = _unit(inputs, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _unit(wide, wide, kernel, stride=stride, groups=wide)
        self.project = _unit(wide, outputs, 1, linear=True)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        changed_BCHW: Tensor = self.project(self.depthwise(self.expand(x_BCHW)))
        return changed_BCHW + x_BCHW if self.skips else changed_BCHW


def _unit(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, linear: bool = False
) -> nn.Sequential:
    """Convolution with TensorFlow's SAME padding for even sides, batch norm, ReLU6."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if stride == 2:
        before, after = (kernel - 2) // 2, (kernel - 1) // 2
        parts["pad"] = nn.ZeroPad2d((before, after, before, after))
    padding = 0 if stride == 2 else kernel // 2
    parts["convolution"] = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
    parts["norm"] = nn.BatchNorm2d(outputs, eps=1e-3)
    if not linear:
        parts["activation"] = nn.ReLU6()
    return nn.Sequential(parts)
