"""A frozen encoder as a source of features: the contract, sizes, heads on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.augmentation import AugmentConfig
from models.contracts import Generator, NotOffered
from models.encoders.efficientnet_lite import EfficientNetLite
from models.encoders.image_encoder import EncoderFacts, ImageEncoder
from models.encoders.networks import EncoderNetwork
from models.generators.directory import UnsafeDirectory
from models.generators.families import FAMILIES, load_source
from models.heads.fusion import FusionConfig, FusionHead
from models.heads.fusion_labeller import FusionLabeller
from models.heads.fusion_training import FusionTrainConfig, fit_fusion
from models.heads.pixel_mlp_training import PixelMLPTrainConfig, fit_pixel_mlps
from models.labelling import label_encoded
from tests.models.tiny import STUFF, disc_examples, tiny_encoder, tiny_generator, tiny_transformer

SIZE = (3, 32, 32)


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return tiny_encoder()


def random_images(count: int) -> torch.Tensor:
    return torch.rand(count, *SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("build", "scale"), [(tiny_transformer, 1.75), (EfficientNetLite, 1.0)])
def test_features_have_the_promised_shapes(build: Any, scale: float) -> None:
    network: EncoderNetwork = build()
    encoder = ImageEncoder(network, EncoderFacts("any", (3, 32, 48), input_scale=scale))
    features = encoder.encode(torch.zeros(2, 3, 32, 48), seeds=[0, 1])
    assert list(features) == list(encoder.tap_channels) == list(encoder.tap_strides)
    assert list(encoder.tap_strides.values()) == sorted(encoder.tap_strides.values(), reverse=True)
    for name, map_BCHW in features.items():
        stride = encoder.tap_strides[name]
        assert map_BCHW.shape == (2, encoder.tap_channels[name], 32 // stride, 48 // stride)
        assert map_BCHW.dtype == torch.float32
        assert not map_BCHW.requires_grad


@pytest.mark.parametrize("size", [(30, 45), (200, 75)])
@pytest.mark.parametrize("build", [tiny_transformer, EfficientNetLite])
def test_it_sees_images_of_any_size(build: Any, size: tuple[int, int], tmp_path: Path) -> None:
    ImageEncoder(
        build(), EncoderFacts("vision_transformer" if build is tiny_transformer else "efficientnet_lite0")
    ).save(tmp_path)
    source = ImageEncoder.load(tmp_path)
    with pytest.raises(ValueError, match="say which with for_images"):
        _ = source.image_size
    encoder = source.for_images(*size)
    features = encoder.encode(torch.zeros(1, 3, *size), seeds=[0])
    assert list(features) == list(encoder.tap_strides)
    for name, map_BCHW in features.items():
        assert map_BCHW.shape[2:] == tuple(-(-side // encoder.tap_strides[name]) for side in size)
    config = FusionConfig(encoder.tap_channels, encoder.tap_strides, tuple(STUFF), width=8, members=1)
    assert FusionHead(config).eval()(features, torch.zeros(1, 3, *size)).shape == (1, 1, 2, *size)
    with pytest.raises(ValueError, match="these are 64x64"):
        encoder.for_images(64, 64)


def test_a_feature_lies_where_its_pixels_do() -> None:
    """An image of no whole stride is resampled as a whole: nothing moves, wherever the odd pixels are."""
    encoder = ImageEncoder(EfficientNetLite(), EncoderFacts("efficientnet_lite0")).for_images(70, 70)
    image_BCHW = torch.zeros(1, 3, 70, 70)
    image_BCHW[..., 60:68, 60:68] = 1
    before, after = (encoder.encode(image, seeds=[0]) for image in (torch.zeros_like(image_BCHW), image_BCHW))
    name = list(encoder.tap_strides)[-1]
    change_HW = (after[name] - before[name]).abs().sum((0, 1))
    row, column = divmod(int(change_HW.argmax()), change_HW.shape[1])
    stride = encoder.tap_strides[name]
    assert 58 <= row * stride <= 70
    assert 58 <= column * stride <= 70


def test_it_is_no_generator(encoder: ImageEncoder) -> None:
    assert not isinstance(encoder, Generator)
    assert isinstance(tiny_generator(), Generator)


def test_there_is_no_noise(encoder: ImageEncoder) -> None:
    images_BCHW = random_images(2)
    first = encoder.encode(images_BCHW, seeds=[1, 2])
    second = encoder.encode(images_BCHW, tap_timestep=0, seeds=[3, 4])
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (encoder.tap_timestep, encoder.num_train_timesteps) == (0, 1)
    with pytest.raises(ValueError, match="no noise: tap_timestep must be 0, got 50"):
        encoder.encode(images_BCHW, tap_timestep=50, seeds=[1, 2])
    with pytest.raises(ValueError, match=r"expected 2 images of \(3, 32, 32\)"):
        encoder.encode(images_BCHW[:, :, :16], seeds=[1, 2])


def test_the_network_sees_enlarged_images_in_its_own_units() -> None:
    encoder, seen = tiny_encoder(), []
    encoder.network.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))  # type: ignore[attr-defined]
    encoder.encode(torch.full((1, *SIZE), 0.2), seeds=[0])
    assert seen[0].shape == (1, 3, 56, 56)
    expected = torch.tensor([(0.6 - 0.5) / 0.2, (0.6 - 0.4) / 0.3, (0.6 - 0.3) / 0.25])
    torch.testing.assert_close(seen[0].mean((0, 2, 3)), expected)


def test_saved_and_loaded_it_is_the_same(encoder: ImageEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    assert json.loads((tmp_path / "generator.json").read_text())["family"] == "encoder"
    loaded = FAMILIES["encoder"].load(tmp_path)
    assert loaded.tap_strides == encoder.tap_strides == dict.fromkeys(["block4", "block3", "block2", "block1"], 4)
    assert loaded.num_parameters == encoder.num_parameters
    assert isinstance(load_source(tmp_path), ImageEncoder)
    ours, theirs = (source.encode(random_images(1), seeds=[0]) for source in (encoder, loaded))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_pickles_are_refused(encoder: ImageEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    (tmp_path / "network" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(UnsafeDirectory, match=r"pytorch_model\.bin"):
        ImageEncoder.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": (1, 32, 32)}, "image_size has 1 channels"),
        ({"tap_names": ("block9",)}, r"unknown taps \['block9'\]"),
        ({"tap_names": ("block1",), "input_scale": 2.0}, r"input_scale 2\.0 gives block1 no whole stride"),
        ({"input_scale": 2.0}, "no tap suits"),
        ({"input_scale": 0.0}, "input_scale must be more than 0"),
    ],
)
def test_what_does_not_go_together_is_named(encoder: ImageEncoder, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageEncoder(encoder.network, replace(encoder.facts, **changes))


def test_an_unknown_network_is_named(encoder: ImageEncoder, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    said = json.loads((tmp_path / "generator.json").read_text())
    (tmp_path / "generator.json").write_text(json.dumps({**said, "network": "resnet"}))
    with pytest.raises(ValueError, match="network is resnet, expected one of"):
        ImageEncoder.load(tmp_path)


@pytest.mark.parametrize(("mirror", "upside_down", "passes"), [(True, True, 4), (True, False, 2), (False, False, 1)])
def test_a_head_on_it_labels_real_images_without_a_pass_too_many(mirror: bool, upside_down: bool, passes: int) -> None:
    encoder, examples, calls = tiny_encoder(), disc_examples(3), []
    augment = AugmentConfig(horizontal_flip=mirror, vertical_flip=upside_down)
    config = FusionTrainConfig(members=2, width=16, steps=30, augment=augment)
    fitted = fit_fusion(encoder, examples, STUFF, config, device=torch.device("cpu"))
    assert fitted.card["tap_timesteps"] == [0]
    encoder.network.register_forward_pre_hook(lambda *_: calls.append(1))  # type: ignore[attr-defined]
    images_BHWC = np.stack([example.image_HWC for example in examples])
    batch = label_encoded(fitted.labeller, images_BHWC, seeds=range(3))
    assert len(calls) == passes
    labels_BHW = np.stack([example.label_HW for example in examples])
    assert (batch.labels_BHW == labels_BHW).mean() > 0.8
    over = label_encoded(fitted.labeller, np.ascontiguousarray(images_BHWC[:, ::-1]), seeds=range(3))
    assert np.allclose(over.probabilities_BCHW[:, :, ::-1], batch.probabilities_BCHW, atol=1e-2) == upside_down


def test_pixel_classifiers_on_it_read_every_image_once() -> None:
    encoder, examples, calls = tiny_encoder(), disc_examples(2), []
    config = PixelMLPTrainConfig(members=2, steps=2)
    fitted = fit_pixel_mlps(encoder, examples, STUFF, config, device=torch.device("cpu"))
    assert fitted.card["tap_timesteps"] == [0]
    encoder.network.register_forward_pre_hook(lambda *_: calls.append(1))  # type: ignore[attr-defined]
    label_encoded(fitted.labeller, np.stack([example.image_HWC for example in examples]), seeds=range(2))
    assert len(calls) == 1


def test_a_head_on_it_says_that_nothing_is_drawn(encoder: ImageEncoder) -> None:
    head = FusionHead(FusionConfig(encoder.tap_channels, encoder.tap_strides, tuple(STUFF), width=16, members=1))
    labeller = FusionLabeller(encoder, head)
    assert labeller.title == "Head on the encoder"
    with pytest.raises(NotOffered, match="encoder draws no images"):
        labeller.sample([1], num_steps=2)


def test_enough_labels_do_not_validate_what_is_no_choice() -> None:
    config = FusionTrainConfig(members=1, width=16, steps=1, validate_from=2)
    fitted = fit_fusion(tiny_encoder(), disc_examples(2), STUFF, config, device=torch.device("cpu"))
    assert fitted.card["cross_validation"] == []
