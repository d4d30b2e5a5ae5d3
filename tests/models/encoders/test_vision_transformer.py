"""Vision transformers: the maps of every kind are its own tokens, and nothing foreign or half is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, AutoModel

from models.encoders.vision_transformer import CLASSES, IMAGENET_MEAN, PREPROCESSOR, VisionTransformer
from tests.models.tiny import tiny_transformer


def saved_model(kind: str, directory: Path) -> Any:
    config = CONFIG_MAPPING[kind](
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=28, patch_size=7
    )
    model = AutoModel.from_config(config).eval()
    model.save_pretrained(directory)
    return model


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_the_last_tap_is_the_networks_own_answer(kind: str, tmp_path: Path) -> None:
    model = saved_model(kind, tmp_path)
    network = VisionTransformer.load(tmp_path)
    input_BCHW = torch.randn(2, 3, 28, 42, generator=torch.Generator().manual_seed(0))
    maps = network(input_BCHW, network.default_taps)
    assert list(maps) == ["block3", "block2", "block1"]
    options = {"interpolate_pos_encoding": True} if kind == "vit" else {}
    tokens_BTC = model(input_BCHW, **options).last_hidden_state
    for row, column in ((0, 0), (3, 1), (2, 5)):
        token_BC = tokens_BTC[:, tokens_BTC.shape[1] - 4 * 6 + row * 6 + column]
        torch.testing.assert_close(maps["block3"][:, :, row, column], token_BC)
    assert not torch.allclose(maps["block1"], maps["block3"])


def test_the_preprocessors_colours_are_kept(tmp_path: Path) -> None:
    tiny_transformer().save(tmp_path)
    loaded = VisionTransformer.load(tmp_path)
    assert (loaded.mean, loaded.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.25))
    (tmp_path / PREPROCESSOR).unlink()
    assert VisionTransformer.load(tmp_path).mean == IMAGENET_MEAN


def test_another_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(ValueError, match="names the network bert; known are"):
        VisionTransformer.load(tmp_path)


def test_missing_weights_are_not_made_up(tmp_path: Path) -> None:
    tiny_transformer().save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 weights are missing, the first is layernorm\.weight"):
        VisionTransformer.load(tmp_path)
