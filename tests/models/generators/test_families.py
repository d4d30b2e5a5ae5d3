"""What every family that draws promises: the one contract of `models.contracts.Generator`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from models.contracts import Features, Generator, NotOffered
from models.generators.directory import UnsafeDirectory
from models.generators.families import FAMILIES, load_source
from tests.models.generators.tiny_families import TINY

STEPS = 3
CLOSE = {"atol": 0.05, "rtol": 0.05}
"""Rounding of bfloat16, where the processor computes in it."""


@pytest.fixture(scope="module", params=list(TINY))
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TINY[request.param][1](tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def generator(directory: Path) -> Generator:
    return load(directory)


def load(directory: Path) -> Generator:
    family = json.loads((directory / "generator.json").read_text())["family"]
    loaded = FAMILIES[family].load(directory, "cpu")
    assert isinstance(loaded, Generator)
    return loaded


def pictures(generator: Generator, count: int) -> torch.Tensor:
    return torch.rand(count, *generator.image_size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def check_features(generator: Generator, features: Features, count: int) -> None:
    _, height, width = generator.image_size
    assert list(features) == list(generator.tap_channels) == list(generator.tap_strides)
    strides = list(generator.tap_strides.values())
    assert strides == sorted(strides, reverse=True)
    for name, map_BCHW in features.items():
        stride = generator.tap_strides[name]
        assert map_BCHW.shape == (count, generator.tap_channels[name], height // stride, width // stride)
        assert map_BCHW.dtype == torch.float32
        assert map_BCHW.isfinite().all()
        assert map_BCHW.std() > 1e-4
        assert not map_BCHW.requires_grad


def assert_same(ours: Features, theirs: Features) -> None:
    for name, map_BCHW in ours.items():
        torch.testing.assert_close(map_BCHW, theirs[name], **CLOSE)


def test_every_family_has_a_tiny_one() -> None:
    assert {family for family, _ in TINY.values()} >= {name for name, known in FAMILIES.items() if known.can_sample}


def test_a_directory_says_its_family(directory: Path, tmp_path: Path) -> None:
    family = json.loads((directory / "generator.json").read_text())["family"]
    assert load_source(directory).family == family
    (tmp_path / "generator.json").write_text('{"family": "painter"}')
    with pytest.raises(ValueError, match="names the family painter, known are"):
        load_source(tmp_path)


def test_sampling_gives_images_and_their_features(generator: Generator) -> None:
    images_BCHW, features = generator.sample([1, 2], num_steps=STEPS)
    assert images_BCHW.shape == (2, *generator.image_size)
    assert images_BCHW.dtype == torch.float32
    assert images_BCHW.abs().max() <= 1
    assert images_BCHW.std() > 0.01
    check_features(generator, features, 2)


def test_encoding_gives_features_of_the_same_kind(generator: Generator) -> None:
    if generator.can_encode:
        check_features(generator, generator.encode(pictures(generator, 2), seeds=[1, 2]), 2)
    else:
        with pytest.raises(NotOffered, match="another family"):
            generator.encode(pictures(generator, 1), seeds=[1])


def test_an_image_depends_on_its_seed_alone(generator: Generator) -> None:
    together_BCHW, together = generator.sample([5, 6, 7], num_steps=STEPS)
    alone_BCHW, alone = generator.sample([6], num_steps=STEPS)
    torch.testing.assert_close(alone_BCHW[0], together_BCHW[1], **CLOSE)
    assert_same(alone, {name: map_BCHW[1:2] for name, map_BCHW in together.items()})
    assert (together_BCHW[0] - together_BCHW[1]).abs().mean() > 0.01
    assert torch.equal(generator.sample([5, 6, 7], num_steps=STEPS)[0], together_BCHW)


def test_encoding_depends_on_image_and_seed_alone(generator: Generator) -> None:
    if not generator.can_encode:
        pytest.skip("this family cannot encode")
    images_BCHW, late = pictures(generator, 2), generator.num_train_timesteps // 2
    both = generator.encode(images_BCHW, tap_timestep=late, seeds=[1, 2])
    alone = generator.encode(images_BCHW[1:], tap_timestep=late, seeds=[2])
    assert_same(alone, {name: map_BCHW[1:] for name, map_BCHW in both.items()})
    other = generator.encode(images_BCHW[1:], tap_timestep=late, seeds=[3])
    assert any((other[name] - alone[name]).abs().max() > 1e-3 for name in alone)


def test_features_can_be_trained_on(generator: Generator) -> None:
    _, features = generator.sample([0], num_steps=1)
    name, channels = next(iter(generator.tap_channels.items()))
    head = torch.nn.Conv2d(channels, 2, 1)
    head(features[name]).sum().backward()
    assert head.weight.grad is not None


def test_timesteps_outside_the_diffusion_are_refused(generator: Generator) -> None:
    assert 0 <= generator.tap_timestep < generator.num_train_timesteps
    with pytest.raises(ValueError, match="tap_timestep must be"):
        generator.sample([1], num_steps=STEPS, tap_timestep=generator.num_train_timesteps)


def test_saved_and_loaded_it_draws_the_same_to_half_precision(generator: Generator, tmp_path: Path) -> None:
    generator.save(tmp_path)
    loaded = load(tmp_path)
    assert (loaded.image_size, loaded.num_parameters) == (generator.image_size, generator.num_parameters)
    assert (loaded.tap_channels, loaded.tap_strides) == (generator.tap_channels, generator.tap_strides)
    assert (loaded.can_sample, loaded.can_encode) == (generator.can_sample, generator.can_encode)
    assert (loaded.sample([4], num_steps=STEPS)[0] - generator.sample([4], num_steps=STEPS)[0]).abs().mean() < 0.02
    again = tmp_path / "again"
    loaded.save(again)
    for path in again.rglob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / path.relative_to(again)).read_bytes()


@pytest.mark.parametrize("name", ["weights.bin", "pipeline.py", "deep/er/x.PT", "y.pkl"])
def test_code_and_pickles_are_refused(generator: Generator, tmp_path: Path, name: str) -> None:
    generator.save(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UnsafeDirectory, match=Path(name).name):
        load(tmp_path)


def test_links_that_leave_the_directory_are_refused(generator: Generator, tmp_path: Path) -> None:
    directory = tmp_path / "generator"
    generator.save(directory)
    (tmp_path / "secret.json").write_text("{}")
    (directory / "card.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(UnsafeDirectory, match=r"card.json is a link"):
        load(directory)


def test_parts_of_another_class_are_refused(generator: Generator, tmp_path: Path) -> None:
    generator.save(tmp_path)
    if not (tmp_path / "model_index.json").exists():
        pytest.skip("this family has no parts")
    index = json.loads((tmp_path / "model_index.json").read_text())
    parts = [part for part, named in index.items() if isinstance(named, list) and None not in named]
    assert len(parts) >= 2
    for part in parts:
        (tmp_path / "model_index.json").write_text(json.dumps({**index, part: ["somewhere", "Anything"]}))
        with pytest.raises(UnsafeDirectory, match=f"{part} is"):
            load(tmp_path)
