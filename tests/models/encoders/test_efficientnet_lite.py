"""EfficientNet-Lite0 against the package whose weights it takes, and against a photograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from skimage import data
from torch import Tensor
from torch.nn.functional import interpolate

from models.encoders.efficientnet_checkpoint import read_checkpoint, shipped_checkpoint
from models.encoders.efficientnet_lite import EfficientNetLite

ESPRESSO, COFFEE_MUG, CUP = 967, 504, 968
"""Classes of ImageNet."""


@pytest.fixture(scope="module")
def ours() -> EfficientNetLite:
    return read_checkpoint(shipped_checkpoint())


@pytest.fixture(scope="module")
def theirs() -> Any:
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(shipped_checkpoint()))
    return network.eval().requires_grad_(False)


def coffee(network: EfficientNetLite) -> Tensor:
    """A photograph of a cup of coffee as the network wants it, 1x3x224x224."""
    image_BCHW = torch.from_numpy(data.coffee()[:, 100:500]).permute(2, 0, 1)[None].float() / 255
    image_BCHW = interpolate(image_BCHW, size=(224, 224), mode="bilinear", antialias=True)
    mean_C, std_C = torch.tensor(network.mean), torch.tensor(network.std)
    return (image_BCHW - mean_C[:, None, None]) / std_C[:, None, None]


def test_every_map_is_that_of_the_package(ours: EfficientNetLite, theirs: Any) -> None:
    expected: dict[str, Tensor] = {}
    for index, block in enumerate(theirs._blocks):
        block.register_forward_hook(lambda _m, _i, map_BCHW, name=f"block{index}": expected.update({name: map_BCHW}))
    input_BCHW = coffee(ours)
    theirs(input_BCHW)
    maps = ours(input_BCHW, tuple(ours.channels))
    assert list(maps) == list(ours.channels) == [f"block{index}" for index in reversed(range(16))]
    for name, map_BCHW in maps.items():
        assert map_BCHW.shape == (1, ours.channels[name], 224 // ours.strides[name], 224 // ours.strides[name])
        torch.testing.assert_close(map_BCHW, expected[name], atol=1e-4, rtol=1e-4)


def test_for_inference_the_maps_are_the_same_and_the_weights_stay(ours: EfficientNetLite) -> None:
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    fast, input_BCHW = ours.for_inference(), coffee(ours)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    folded, plain = fast(input_BCHW, tuple(ours.channels)), ours(input_BCHW, tuple(ours.channels))
    for name, map_BCHW in plain.items():
        torch.testing.assert_close(folded[name], map_BCHW, atol=1e-3, rtol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())


def test_the_weights_know_a_cup_of_coffee(ours: EfficientNetLite, theirs: Any) -> None:
    map_BCHW = ours(coffee(ours), ["block15"])["block15"]
    pooled_BC = theirs._swish(theirs._bn1(theirs._conv_head(map_BCHW))).mean((2, 3))
    share_C = theirs._fc(pooled_BC).softmax(dim=1)[0]
    assert int(share_C.argmax()) == ESPRESSO
    assert share_C[[ESPRESSO, COFFEE_MUG, CUP]].sum() > 0.5


def test_only_what_the_taps_need_is_computed(ours: EfficientNetLite) -> None:
    assert ours.default_taps == ("block15", "block10", "block4", "block2", "block0")
    calls: list[int] = []
    handles = [block.register_forward_hook(lambda *_, i=i: calls.append(i)) for i, block in enumerate(ours.blocks)]
    assert list(ours(torch.zeros(1, 3, 32, 48), ["block0", "block4"])) == ["block4", "block0"]
    assert calls == [0, 1, 2, 3, 4]
    for handle in handles:
        handle.remove()


def test_saved_and_loaded_it_is_the_same(ours: EfficientNetLite, tmp_path: Path) -> None:
    ours.save(tmp_path)
    loaded = EfficientNetLite.load(tmp_path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in ours.state_dict().items())
    assert not loaded.training


def test_another_file_is_not_unpickled(tmp_path: Path) -> None:
    (tmp_path / "other.pth").write_bytes(b"weights of somebody")
    with pytest.raises(ValueError, match=r"other\.pth is not the file that was checked"):
        read_checkpoint(tmp_path / "other.pth")
