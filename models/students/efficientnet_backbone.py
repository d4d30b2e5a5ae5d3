"""EfficientNet-Lite0 as a backbone that transformers has: its ImageNet weights, written as a PP-LCNet.

Between the projection of one block and the expansion of the next nothing is bent, so the two are one 1x1 convolution,
and what is left is PP-LCNet's chain of depth-wise and 1x1 convolutions. What a block passes by (its skip connection)
goes along in channels of its own, as 3 plus a small multiple of itself, which ReLU6 leaves as it is.
The answers are those of Lite0 but for the padding at the border: TensorFlow's puts the odd pixel behind, this one before.
Axes: C channels of a projection, O channels out, I channels in.
"""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PPLCNetBackbone

from models.encoders.efficientnet_lite import EfficientNetLite
from models.registry import STUDENTS
from models.students.weights import PREPROCESSOR

ARCHITECTURE = "upernet_efficientnet_lite0"
MIDDLE = 3.0
"""Of ReLU6's range: where a value that must not be bent is kept."""
SCALE, LAST_SCALE = 1 / 8, 1 / 2
"""What one standard deviation becomes; the last block's values meet one ReLU6 and want no room for sums."""
SMALLEST_VARIANCE = 1e-3


@dataclass(frozen=True)
class _Line:
    """Values x_C = weight_CI @ input + constant_C, whose mean and variance on ImageNet are about these."""

    weight_CI: Tensor
    constant_C: Tensor
    mean_C: Tensor
    variance_C: Tensor


@torch.no_grad()
def as_backbone(network: EfficientNetLite) -> PPLCNetBackbone:
    """The network as the backbone of `upernet_efficientnet_lite0`: the same function inside, for normalised images."""
    backbone = PPLCNetBackbone(STUDENTS[ARCHITECTURE].configure({}, 2).backbone_config).eval()
    stem: Any = backbone.encoder.convolution
    stem.convolution.weight.copy_(network.stem.convolution.weight)
    _take_norm(stem.normalization, network.stem.norm)
    layers = [layer for stage in backbone.encoder.blocks for layer in stage.layers]
    passed: _Line | None = None
    for layer, (block, following) in zip(layers, pairwise([*network.blocks, None]), strict=True):
        _take_depthwise(layer.depthwise_convolution, block.depthwise)
        line = _projected(block, passed if block.skips else None)
        _take_pointwise(layer.pointwise_convolution, line, following)
        passed = line
    return backbone


def save_backbone(network: EfficientNetLite, directory: Path) -> None:
    """Write what `student.weights` takes: config.json, model.safetensors, and the units in preprocessor_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    as_backbone(network).save_pretrained(directory)
    units = {"image_mean": list(network.mean), "image_std": list(network.std)}
    (directory / PREPROCESSOR).write_text(json.dumps(units, indent=2) + "\n")


def _projected(block: Any, passed: _Line | None) -> _Line:
    """What a block answers, from its depth-wise channels and, where it skips, from the channels passed by."""
    norm = block.project.norm
    gain_C = norm.weight / (norm.running_var + norm.eps).sqrt()
    line = _Line(
        gain_C[:, None] * block.project.convolution.weight[:, :, 0, 0],
        norm.bias - gain_C * norm.running_mean,
        norm.bias,
        norm.weight.square(),
    )
    if passed is None:
        return line
    per_step_C = passed.variance_C.clamp_min(SMALLEST_VARIANCE).sqrt() / SCALE
    return _Line(
        torch.cat([line.weight_CI, torch.diag(per_step_C)], dim=1),
        line.constant_C + passed.mean_C - MIDDLE * per_step_C,
        line.mean_C + passed.mean_C,
        line.variance_C + passed.variance_C,
    )


def _take_depthwise(ours: Any, theirs: Any) -> None:
    """Their channels, then those that only pass."""
    wide, kernel = len(theirs.convolution.weight), ours.convolution.kernel_size[0]
    ours.convolution.weight.zero_()
    ours.convolution.weight[:wide] = theirs.convolution.weight
    ours.convolution.weight[wide:, 0, kernel // 2, kernel // 2] = 1.0
    _take_norm(ours.normalization, theirs.norm)
    passing = torch.full((len(ours.convolution.weight) - wide,), MIDDLE)
    _keep(ours.normalization, wide, passing, torch.full_like(passing, SCALE**2), SCALE)


def _take_pointwise(ours: Any, line: _Line, following: Any) -> None:
    """The expansion of the following block, then what it passes by; at the end the last block's answer alone."""
    wide, scale = 0, LAST_SCALE
    if following is not None:
        expand_OC = following.expand.convolution.weight[:, :, 0, 0]
        wide, scale = len(expand_OC), SCALE
        ours.convolution.weight[:wide, :, 0, 0] = expand_OC @ line.weight_CI
        _take_norm(ours.normalization, following.expand.norm)
        ours.normalization.running_mean[:wide] -= expand_OC @ line.constant_C
    if following is None or following.skips:
        ours.convolution.weight[wide:, :, 0, 0] = line.weight_CI
        variance_C = line.variance_C.clamp_min(SMALLEST_VARIANCE)
        _keep(ours.normalization, wide, line.mean_C - line.constant_C, variance_C, scale)


def _take_norm(ours: nn.BatchNorm2d, theirs: nn.BatchNorm2d) -> None:
    """Their normalisation of the first channels; what their epsilon adds to ours goes into the variance."""
    count = theirs.num_features
    ours.weight[:count], ours.bias[:count] = theirs.weight, theirs.bias
    ours.running_mean[:count] = theirs.running_mean
    ours.running_var[:count] = theirs.running_var + (theirs.eps - ours.eps)


def _keep(norm: nn.BatchNorm2d, first: int, mean_C: Tensor, variance_C: Tensor, scale: float) -> None:
    """From that channel on: values of that mean and variance become MIDDLE plus `scale` times the standardised ones."""
    norm.weight[first:], norm.bias[first:] = scale, MIDDLE
    norm.running_mean[first:], norm.running_var[first:] = mean_C, variance_C - norm.eps
