"""The head: shapes, members, and the way to disk and back."""

from pathlib import Path

import pytest
import torch

from models.generators.network import NetworkConfig
from models.generators.unet_diffusion import UNetDiffusionGenerator
from models.heads.fusion import FusionConfig, FusionHead
from tests.models.tiny import THINGS, tiny_generator


def test_saved_heads_answer_alike_and_members_differ(tmp_path: Path) -> None:
    generator = tiny_generator()
    config = FusionConfig(
        generator.tap_channels, generator.tap_strides, tuple(THINGS), width=16, members=3, tap_timesteps=(20,)
    )
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    features = generator.encode(image, tap_timestep=20, seeds=[1, 2])
    head = FusionHead(config)
    head.calibrate([features])
    head.save(tmp_path)
    loaded = FusionHead.load(tmp_path)
    with torch.inference_mode():
        logits = head.eval()(features, image)
        assert torch.allclose(loaded(features, image), logits, atol=1e-5)
    assert logits.shape == (3, 2, 3, 32, 32)
    assert not torch.allclose(logits[0], logits[1])
    assert loaded.config == config


@pytest.mark.parametrize("strides", [(64, 32, 16, 8), (12, 12), (24, 6, 3), (16, 1), (128,)])
def test_maps_of_any_stride_end_at_the_images_size(strides: tuple[int, ...]) -> None:
    height, width = max(strides), 2 * max(strides)
    names = [f"map{index}" for index in range(len(strides))]
    config = FusionConfig(dict.fromkeys(names, 4), dict(zip(names, strides, strict=True)), tuple(THINGS), width=8)
    features = {
        name: torch.randn(2, 4, height // stride, width // stride) for name, stride in config.tap_strides.items()
    }
    image_BCHW = torch.zeros(2, 3, height, width)
    head = FusionHead(config).eval()
    head.calibrate([features])
    logits_KBCHW = head(features, image_BCHW)
    assert logits_KBCHW.shape == (4, 2, 3, height, width)
    for name, map_BCHW in features.items():
        assert not torch.allclose(head({**features, name: map_BCHW + 1.0}, image_BCHW), logits_KBCHW)


@pytest.mark.parametrize("size", [(33, 47), (21, 50)])
def test_images_of_odd_sides_are_labelled_too(size: tuple[int, int]) -> None:
    generator = UNetDiffusionGenerator.build((3, *size), NetworkConfig((8, 16), attention=False))
    generator.select_taps([*generator.available_taps])
    config = FusionConfig(generator.tap_channels, generator.tap_strides, tuple(THINGS), width=8)
    image_BCHW = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = generator.encode(image_BCHW, seeds=[1, 2])
    assert set(config.tap_strides.values()) == {1, 2, 4}
    head = FusionHead(config).eval()
    head.calibrate([features])
    assert head(features, image_BCHW).shape == (4, 2, 3, *size)


def test_its_statistics_are_those_of_all_batches_together() -> None:
    draw = torch.Generator().manual_seed(0)
    batches = [{"map": torch.randn(4, 3, 8, 8, generator=draw) * 5 + 100 * index} for index in range(3)]
    head = FusionHead(FusionConfig({"map": 3}, {"map": 4}, tuple(THINGS), width=8))
    head.calibrate(iter(batches))
    value_BCHW = torch.cat([features["map"] for features in batches])
    torch.testing.assert_close(head.mean_map, value_BCHW.mean((0, 2, 3)))
    torch.testing.assert_close(head.scale_map, 1 / value_BCHW.std((0, 2, 3), correction=0))
