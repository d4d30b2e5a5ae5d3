"""StyleGAN2: the network against a plain reading of the paper, truncation, seeds, weights of other networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from models.generators.stylegan2 import WEIGHTS_FILE, StyleGAN2Generator
from models.generators.stylegan2_network import StyledConvolution, StyleGAN2Shape
from tests.models.generators import tiny_families


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tiny_families.stylegan2(tmp_path / "gan")


def one_by_one(layer: StyledConvolution, x_BCHW: torch.Tensor, w_BD: torch.Tensor) -> torch.Tensor:
    """A modulated, demodulated convolution, image by image; upsampling as zeros between pixels, then a smoothed kernel."""
    images = []
    for x_CHW, w_D in zip(x_BCHW, w_BD, strict=True):
        style_C = (layer.affine.weight @ w_D) / len(w_D) ** 0.5 + layer.affine.bias
        kernel_OIHW = layer.weight * style_C[None, :, None, None]
        kernel_OIHW = kernel_OIHW / (kernel_OIHW.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer._up:
            channels, height, width = x_CHW.shape
            spread = torch.zeros(1, channels, 2 * height, 2 * width)
            spread[0, :, ::2, ::2] = x_CHW
            # A transposed convolution is a convolution of the spread map with the kernel turned around.
            turned = kernel_OIHW.flip(2, 3)
            smooth = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 16
            out = functional.conv2d(functional.pad(spread, (3, 2, 3, 2)), turned)
            out = functional.conv2d(out, smooth.expand(out.shape[1], 1, 4, 4), groups=out.shape[1])
        else:
            out = functional.conv2d(x_CHW[None], kernel_OIHW, padding=1)
        images.append(functional.leaky_relu(out + layer.bias[None, :, None, None], 0.2) * 2**0.5)
    return torch.cat(images)


@pytest.mark.parametrize("up", [False, True])
def test_kernels_are_modulated_and_demodulated_for_every_image(up: bool) -> None:
    torch.manual_seed(0)
    layer = StyledConvolution(3, 5, 4, up=up).requires_grad_(False)
    x_BCHW, w_BD = torch.randn(2, 3, 6, 6), torch.randn(2, 4)
    ours_BCHW = layer(x_BCHW, w_BD, torch.zeros(1, 1, 1, 1))
    assert ours_BCHW.shape == (2, 5, 12, 12) if up else (2, 5, 6, 6)
    torch.testing.assert_close(ours_BCHW, one_by_one(layer, x_BCHW, w_BD), atol=1e-5, rtol=1e-4)


def test_truncation_draws_towards_the_mean_image(directory: Path) -> None:
    generator = StyleGAN2Generator.load(directory)
    spreads = []
    for truncation in (1.0, 0.5, 0.0):
        generator.facts.truncation = truncation
        w_BD = generator.network.mapping(torch.randn(64, 8, generator=torch.Generator().manual_seed(0)), truncation)
        spreads.append(float(w_BD.std(dim=0).mean()))
    assert spreads[0] > 0
    assert spreads[1] == pytest.approx(spreads[0] / 2, rel=1e-4)
    assert spreads[2] == pytest.approx(0, abs=1e-6)
    assert generator.network.mapping.w_avg.abs().max() > 0


def test_truncation_is_read_from_the_card(directory: Path, tmp_path: Path) -> None:
    mean = StyleGAN2Generator.load(tiny_families.stylegan2(tmp_path / "mean", truncation=0.0))
    for block in mean.network.synthesis.children():
        for name, parameter in block.named_parameters():
            if name.endswith("noise_strength"):
                parameter.fill_(0.0)
    images_BCHW, _ = mean.sample([1, 2])
    torch.testing.assert_close(images_BCHW[0], images_BCHW[1])
    images_BCHW, _ = StyleGAN2Generator.load(directory).sample([1, 2])
    assert (images_BCHW[0] - images_BCHW[1]).abs().max() > 0.01


def test_noise_follows_the_seed(directory: Path) -> None:
    generator = StyleGAN2Generator.load(directory)
    quiet = StyleGAN2Generator.load(directory)
    for name, parameter in quiet.network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.0)
    differences = generator.sample([1, 2])[0] - quiet.sample([1, 2])[0]
    assert differences.abs().max() > 1e-3
    assert (differences[0] - differences[1]).abs().max() > 1e-3


def test_the_weights_alone_say_the_sizes(directory: Path) -> None:
    weights = load_file(directory / WEIGHTS_FILE)
    assert StyleGAN2Shape.of(weights) == StyleGAN2Shape(8, 8, 2, 3, (8, 8, 8, 4))
    generator = StyleGAN2Generator.load(directory)
    assert generator.tap_strides == {"b4": 8, "b8": 4, "b16": 2, "b32": 1}
    assert generator.tap_channels == {"b4": 8, "b8": 8, "b16": 8, "b32": 4}


def test_the_fixed_noise_of_the_authors_weights_is_not_needed(directory: Path) -> None:
    weights = load_file(directory / WEIGHTS_FILE)
    before_BCHW, _ = StyleGAN2Generator.load(directory).sample([1])
    save_file({**weights, "synthesis.b8.conv1.noise_const": torch.ones(8, 8)}, directory / WEIGHTS_FILE)
    assert torch.equal(StyleGAN2Generator.load(directory).sample([1])[0], before_BCHW)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mapping.embed.weight": torch.zeros(8, 3)}, "told a class"),
        ({"synthesis.b4.skip.weight": torch.zeros(1)}, "another network"),
        ({"synthesis.b4.torgb.weight": None}, "synthesis.b4.torgb.weight' is missing"),
        ({"mapping.fc1.bias": None}, "another network"),
    ],
)
def test_weights_of_another_network_are_named(
    directory: Path, change: dict[str, torch.Tensor | None], said: str
) -> None:
    changed = {**load_file(directory / WEIGHTS_FILE), **change}
    save_file({name: value for name, value in changed.items() if value is not None}, directory / WEIGHTS_FILE)
    with pytest.raises(ValueError, match=said):
        StyleGAN2Generator.load(directory)


@pytest.mark.parametrize(
    ("facts", "said"),
    [({"image_size": [3, 64, 64]}, r"the weights make \[3, 32, 32\]"), ({"truncation": 1.5}, "truncation must be")],
)
def test_a_card_that_does_not_fit_is_named(tmp_path: Path, facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        StyleGAN2Generator.load(tiny_families.stylegan2(tmp_path, **facts))
