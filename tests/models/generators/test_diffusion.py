"""What all diffusion families do alike: encoding ends where the last map has been read."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.contracts import Features
from models.generators.diffusion import DiffusionGenerator
from models.generators.families import FAMILIES
from models.generators.unet_diffusion import CLEAN_TAP, UNetDiffusionGenerator
from tests.models.generators.tiny_families import TINY

DIFFUSIONS = [name for name, (family, _) in TINY.items() if issubclass(FAMILIES[family], DiffusionGenerator)]


@pytest.fixture(scope="module", params=DIFFUSIONS)
def generator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DiffusionGenerator:
    family, write = TINY[request.param]
    loaded = FAMILIES[family].load(write(tmp_path_factory.mktemp(request.param)), "cpu")
    assert isinstance(loaded, DiffusionGenerator)
    return loaded


def whole_passes(generator: DiffusionGenerator) -> list[int]:
    """Grows by one with every pass of the network that gets to its end."""
    passes: list[int] = []
    generator.denoiser.register_forward_hook(lambda *_: passes.append(1))
    return passes


def encoded(generator: DiffusionGenerator) -> Features:
    images_BCHW = torch.rand(2, *generator.image_size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return generator.encode(images_BCHW, tap_timestep=90, seeds=[1, 2])


def test_encoding_ends_at_the_last_map_and_sampling_does_not(generator: DiffusionGenerator) -> None:
    passes = whole_passes(generator)
    short = encoded(generator)
    assert passes == []
    generator.sample([1], num_steps=2, tap_timestep=90)
    assert passes == [1, 1]
    again = encoded(generator)
    assert all(torch.equal(short[name], again[name]) for name in generator.tap_channels)


def test_the_maps_are_those_of_a_whole_pass(generator: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    for names in ([name] for name in generator._taps.channels):
        generator.select_taps(names)
        short = encoded(generator)
        with monkeypatch.context() as patch:
            patch.setattr(generator._taps, "recording_only", generator._taps.recording)
            whole = encoded(generator)
        assert list(short) == list(whole) == names
        assert torch.equal(short[names[0]], whole[names[0]])


def test_the_guess_of_the_clean_image_needs_the_whole_network(tmp_path: Path) -> None:
    generator = UNetDiffusionGenerator.load(TINY["unet_diffusion"][1](tmp_path))
    passes = whole_passes(generator)
    generator.select_taps([*generator.tap_channels, CLEAN_TAP])
    assert list(encoded(generator))[-1] == CLEAN_TAP
    assert passes == [1]


def test_an_error_within_a_pass_is_no_end_of_it(generator: DiffusionGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise MemoryError("no room")

    passes = whole_passes(generator)
    with monkeypatch.context() as patch:
        patch.setattr(generator, "_predict", broken)
        with pytest.raises(MemoryError, match="no room"):
            encoded(generator)
    generator.sample([1], num_steps=1)
    assert passes == [1]
