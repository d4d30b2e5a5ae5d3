"""The pixel classifiers: the papers' sizes, the exact short cut of the first layer, and the way to disk and back."""

from pathlib import Path

import torch
from torch.nn import functional

from models.contracts import ClassSpec, Features
from models.heads.pixel_mlp import PixelMLP, PixelMLPConfig, PixelMLPs, encode_at_all
from tests.models.tiny import THINGS, tiny_generator

TIMESTEPS = (50, 150)
SEEDS = [1, 2]


def networks_and_features() -> tuple[PixelMLPs, Features]:
    generator = tiny_generator()
    image_BCHW = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = encode_at_all(generator, image_BCHW, TIMESTEPS, seeds=SEEDS)
    torch.manual_seed(0)
    networks = PixelMLPs(PixelMLPConfig(generator.tap_channels, tuple(THINGS), members=3, tap_timesteps=TIMESTEPS))
    networks.calibrate(features)
    return networks.eval(), features


def test_every_timestep_is_read_with_the_same_noise_and_none_is_lost() -> None:
    generator = tiny_generator()
    image_BCHW = torch.zeros(2, 3, 32, 32)
    features = encode_at_all(generator, image_BCHW, TIMESTEPS, seeds=SEEDS)
    alone = generator.encode(image_BCHW, tap_timestep=150, seeds=SEEDS)
    for name, channels in generator.tap_channels.items():
        assert features[name].shape[1] == 2 * channels
        assert torch.equal(features[name][:, channels:], alone[name])


@torch.inference_mode()
def test_the_first_layer_before_the_upsampling_is_the_same_as_after_it() -> None:
    networks, features = networks_and_features()
    logits_KBCHW = networks(features, (32, 32))
    assert logits_KBCHW.shape == (3, 2, 3, 32, 32)
    maps = [functional.interpolate(x, size=(32, 32), mode="bilinear") for x in networks._standardised(features)]
    row_RD = torch.cat(maps, dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    for member, logits_BCHW in zip(networks._networks(), logits_KBCHW, strict=True):
        plain_BCHW = member(row_RD).unflatten(0, (2, 32, 32)).permute(0, 3, 1, 2)
        assert torch.allclose(logits_BCHW, plain_BCHW, atol=1e-5)
    assert not torch.allclose(logits_KBCHW[0], logits_KBCHW[1], atol=1e-4)


@torch.inference_mode()
def test_single_pixels_answer_as_they_do_in_the_whole_image() -> None:
    networks, features = networks_and_features()
    pixels = [(0, 0), (31, 31), (7, 20)]
    place_P2 = torch.tensor([[(2 * x + 1) / 32 - 1, (2 * y + 1) / 32 - 1] for y, x in pixels])
    logits = networks.at_pixels(features, place_P2.expand(2, 3, 3, 2))
    whole_KBCHW = networks(features, (32, 32))
    for member, logits_RC in enumerate(logits):
        for image in range(2):
            for place, (y, x) in enumerate(pixels):
                expected_C = whole_KBCHW[member, image, :, y, x]
                assert torch.allclose(logits_RC[image * 3 + place], expected_C, atol=1e-5)


def test_the_sizes_are_those_of_the_papers() -> None:
    def widths(outputs: int) -> list[tuple[int, int]]:
        layers = [layer for layer in PixelMLP(100, outputs).modules() if isinstance(layer, torch.nn.Linear)]
        return [(layer.in_features, layer.out_features) for layer in layers]

    assert widths(31) == [(100, 128), (128, 32), (32, 31)]
    assert widths(32) == [(100, 256), (256, 128), (128, 32)]
    assert abs(float(PixelMLP(1000, 4).first.weight.detach().std()) - 0.02) < 1e-3


def test_saved_networks_answer_alike(tmp_path: Path) -> None:
    networks, features = networks_and_features()
    networks.save(tmp_path)
    loaded = PixelMLPs.load(tmp_path)
    assert loaded.config == networks.config
    assert loaded.config.classes[1] == ClassSpec("disc", thing=True)
    with torch.inference_mode():
        assert torch.equal(loaded(features, (32, 32)), networks(features, (32, 32)))
