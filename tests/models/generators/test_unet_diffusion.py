"""The diffusion generator: seeds, taps, round trips, rectangles."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler

from models.generators.network import NetworkConfig, network_for
from models.generators.unet_diffusion import CLEAN_TAP, UNetDiffusionGenerator

SIZE = (3, 16, 32)


@pytest.fixture(scope="module")
def generator() -> UNetDiffusionGenerator:
    return UNetDiffusionGenerator.build(SIZE, NetworkConfig((8, 16), layers_per_block=1, attention=True), seed=3)


def count_calls(generator: UNetDiffusionGenerator) -> list[int]:
    calls: list[int] = []
    generator.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    return calls


def test_images_and_features_have_the_promised_shapes(generator: UNetDiffusionGenerator) -> None:
    images_BCHW, features = generator.sample([1, 2], num_steps=3)
    assert images_BCHW.shape == (2, *SIZE)
    assert images_BCHW.dtype == torch.float32
    assert images_BCHW.abs().max() <= 1
    assert list(features) == list(generator.tap_channels) == ["up0.1", "up1.0"]
    for name, map_BCHW in features.items():
        stride = generator.tap_strides[name]
        assert map_BCHW.shape == (2, generator.tap_channels[name], SIZE[1] // stride, SIZE[2] // stride)
        assert map_BCHW.dtype == torch.float32
        assert not map_BCHW.requires_grad


def test_an_image_depends_on_its_seed_alone(generator: UNetDiffusionGenerator) -> None:
    together_BCHW, together = generator.sample([5, 6, 7], num_steps=4)
    alone_BCHW, alone = generator.sample([6], num_steps=4)
    torch.testing.assert_close(alone_BCHW[0], together_BCHW[1], atol=0.03, rtol=0)
    torch.testing.assert_close(alone["up1.0"][0], together["up1.0"][1], atol=0.1, rtol=0)
    assert (together_BCHW[0] - together_BCHW[1]).abs().mean() > 0.1
    again_BCHW, _ = generator.sample([5, 6, 7], num_steps=4)
    assert torch.equal(again_BCHW, together_BCHW)


def test_taps_cost_no_pass_of_the_network(generator: UNetDiffusionGenerator) -> None:
    calls = count_calls(generator)
    generator.sample([1], num_steps=6, tap_timestep=300)
    assert len(calls) == 6
    generator.encode(torch.zeros(1, *SIZE), seeds=[1])
    assert len(calls) == 7


def test_features_are_those_of_the_step_nearest_the_tap_timestep(generator: UNetDiffusionGenerator) -> None:
    seen: list[int] = []
    handle = generator.unet.register_forward_pre_hook(lambda _m, inputs: seen.append(int(inputs[1])))
    assert generator.tapped_timestep(10, 320) == 299
    _, at_320 = generator.sample([1], num_steps=10, tap_timestep=320)
    handle.remove()
    assert 299 in seen
    _, at_299 = generator.sample([1], num_steps=10, tap_timestep=299)
    _, at_699 = generator.sample([1], num_steps=10, tap_timestep=699)
    assert all(torch.equal(at_320[name], at_299[name]) for name in at_320)
    assert not torch.equal(at_320["up1.0"], at_699["up1.0"])


def test_encoding_noises_each_image_by_its_own_seed(generator: UNetDiffusionGenerator) -> None:
    images_BCHW = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    both = generator.encode(images_BCHW, tap_timestep=100, seeds=[1, 2])
    swapped = generator.encode(images_BCHW.flip(0), tap_timestep=100, seeds=[2, 1])
    torch.testing.assert_close(both["up1.0"][0], swapped["up1.0"][1], atol=0.1, rtol=0)
    other = generator.encode(images_BCHW, tap_timestep=100, seeds=[3, 2])
    assert not torch.equal(both["up1.0"][0], other["up1.0"][0])
    kept = list(generator.tap_channels)
    generator.select_taps([CLEAN_TAP])
    near = generator.encode(images_BCHW, tap_timestep=0, seeds=[1, 2])[CLEAN_TAP]
    generator.select_taps(kept)
    torch.testing.assert_close(near, images_BCHW, atol=0.1, rtol=0)


def test_features_can_be_trained_on(generator: UNetDiffusionGenerator) -> None:
    features = generator.encode(torch.zeros(1, *SIZE), seeds=[0])
    head = torch.nn.Conv2d(generator.tap_channels["up1.0"], 2, 1)
    head(features["up1.0"]).sum().backward()
    assert head.weight.grad is not None


def test_saved_and_loaded_it_is_the_same_to_half_precision(generator: UNetDiffusionGenerator, tmp_path: Path) -> None:
    generator.facts.training = {"steps": 7}
    generator.save(tmp_path)
    loaded = UNetDiffusionGenerator.load(tmp_path)
    assert loaded.facts == generator.facts
    assert loaded.num_parameters == generator.num_parameters
    torch.testing.assert_close(
        loaded.sample([4], num_steps=3)[0], generator.sample([4], num_steps=3)[0], atol=0.1, rtol=0
    )
    again = tmp_path / "again"
    loaded.save(again)
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert (again / weights).read_bytes() == (tmp_path / weights).read_bytes()
    assert sorted(path.suffix for path in tmp_path.glob("unet/*")) == [".json", ".safetensors"]


def test_chosen_taps_are_kept(generator: UNetDiffusionGenerator, tmp_path: Path) -> None:
    generator.save(tmp_path)
    other = UNetDiffusionGenerator.load(tmp_path)
    other.select_taps(["up1.1", "up0.0"])
    assert list(other.encode(torch.zeros(1, *SIZE), seeds=[0])) == ["up0.0", "up1.1"]
    other.save(tmp_path)
    assert list(UNetDiffusionGenerator.load(tmp_path).tap_channels) == ["up0.0", "up1.1"]
    with pytest.raises(ValueError, match="unknown taps"):
        other.select_taps(["up9.9"])


def test_a_plain_diffusers_pipeline_loads_without_our_file(tmp_path: Path) -> None:
    ours = UNetDiffusionGenerator.build((3, 8, 8), NetworkConfig((8,), 1, 1, attention=False))
    DDPMPipeline(ours.unet, DDPMScheduler()).save_pretrained(tmp_path)
    plain = UNetDiffusionGenerator.load(tmp_path)
    assert plain.image_size == (3, 8, 8)
    assert plain.scheduler.config.prediction_type == "epsilon"
    assert plain.sample([1], num_steps=2)[0].shape == (1, 3, 8, 8)


def test_wrong_sizes_and_timesteps_are_named(generator: UNetDiffusionGenerator) -> None:
    with pytest.raises(ValueError, match="expected 1 images"):
        generator.encode(torch.zeros(1, 3, 8, 8), seeds=[1])
    with pytest.raises(ValueError, match="tap_timestep"):
        generator.sample([1], tap_timestep=1000)
    with pytest.raises(ValueError, match="num_steps"):
        generator.sample([1], num_steps=0)


@pytest.mark.parametrize("size", [(3, 18, 26), (3, 13, 15), (1, 16, 9)])
def test_sides_that_cannot_be_halved_are_padded_and_nobody_sees_it(size: tuple[int, int, int]) -> None:
    generator = UNetDiffusionGenerator.build(size, NetworkConfig((8, 8, 16), layers_per_block=1, attention=False))
    generator.select_taps([*generator.available_taps])
    images_BCHW = torch.rand(2, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert torch.equal(generator.to_image(generator.to_latent(images_BCHW)), images_BCHW)
    drawn_BCHW, drawn = generator.sample([1, 2], num_steps=2)
    assert drawn_BCHW.shape == (2, *size)
    for features in (drawn, generator.encode(images_BCHW, seeds=[1, 2])):
        for name, stride in generator.tap_strides.items():
            shape = (2, generator.tap_channels[name], -(-size[1] // stride), -(-size[2] // stride))
            assert features[name].shape == shape, name


def test_features_of_padded_images_lie_where_they_belong() -> None:
    generator = UNetDiffusionGenerator.build((3, 18, 26), NetworkConfig((8, 8, 16), attention=False))  # to 24 x 32
    rows_HW, columns_HW = torch.meshgrid(torch.arange(3.0), torch.arange(4.0), indexing="ij")
    centres_BCHW = torch.stack([rows_HW * 8 + 4, columns_HW * 8 + 4])[None]
    # Three rows of 6 pixels and four columns of 6.5 cover the image of 18 x 26.
    found_BCHW = generator._cropped(centres_BCHW, 8)
    assert found_BCHW[0, 0, :, 0].tolist() == pytest.approx([4.0, 9.0, 15.0], abs=1e-4)
    assert found_BCHW[0, 1, 0].tolist() == pytest.approx([4.0, 9.75, 16.25, 22.75], abs=1e-4)
    fine_BCHW = torch.arange(12.0 * 16).reshape(1, 1, 12, 16)
    assert torch.equal(generator._cropped(fine_BCHW, 2), fine_BCHW[:, :, :9, :13])


@pytest.mark.parametrize(
    ("size", "channels", "unit"),
    [
        ((3, 64, 64), 3, 8),
        ((3, 64, 128), 3, 8),
        ((1, 28, 28), 2, 2),
        ((3, 50, 50), 2, 4),
        ((3, 100, 75), 3, 8),
        ((3, 33, 47), 2, 4),
        ((3, 500, 333), 4, 32),
        ((3, 256, 256), 4, 32),
        ((2, 96, 32), 3, 4),
    ],
)
def test_every_image_size_gets_levels_enough_to_see_the_whole_of_it(
    size: tuple[int, int, int], channels: int, unit: int
) -> None:
    network = network_for(size)
    assert (len(network.block_out_channels), network.unit) == (channels, unit)
    assert 8 <= min(size[1:]) / unit < 17


def test_the_standard_network_stays_under_twelve_megabytes(tmp_path: Path) -> None:
    UNetDiffusionGenerator.build((3, 64, 64), network_for((3, 64, 64))).save(tmp_path)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 12 * 2**20
    assert json.loads((tmp_path / "model_index.json").read_text())["unet"] == ["diffusers", "UNet2DModel"]
