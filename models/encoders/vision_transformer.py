"""Vision transformers of the DINO kind (ViT, DINOv2, DINOv3) by `transformers`, from local weights alone.

Maps are a few blocks' patch tokens, through the network's last norm, as images (Oquab et al. 2023, section 7.4).
Axes: B batch, C channel, H height, W width, T tokens.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import Dinov2Model, Dinov2WithRegistersModel, DINOv3ViTModel, ViTModel

from models.contracts import Features

CLASSES: dict[str, Any] = {
    "vit": ViTModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "dinov3_vit": DINOv3ViTModel,
}
"""`model_type` of config.json -> class; no other is loaded."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESSOR = "preprocessor_config.json"
TAPPED_BLOCKS = 4
PATCH_GRID = 16
"""Patches along the shorter side that an image is enlarged to: what such networks were trained on."""


class VisionTransformer(nn.Module):
    """Tap `block{i}` is the i-th block's output, counted from 1, at one vector per patch."""

    def __init__(self, model: Any, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD):
        super().__init__()
        self.model, self.mean, self.std = model, mean, std
        self.patch = int(model.config.patch_size)
        blocks = [f"block{index}" for index in range(model.config.num_hidden_layers, 0, -1)]
        self.channels = {name: int(model.config.hidden_size) for name in blocks}
        self.strides = dict.fromkeys(blocks, self.patch)
        self.norm = model.norm if model.config.model_type == "dinov3_vit" else model.layernorm
        self.eval().requires_grad_(False)

    def input_scale(self, height: int, width: int) -> float:
        """Such that the shorter side has PATCH_GRID patches or more and a patch covers 1, 2, 4, ... image pixels."""
        stride = 1
        while min(height, width) // (2 * stride) >= PATCH_GRID:
            stride *= 2
        return self.patch / stride

    @property
    def default_taps(self) -> tuple[str, ...]:
        """Four blocks, evenly spaced, the last of them first."""
        last = len(self.channels)
        chosen = {round(last * part / TAPPED_BLOCKS) for part in range(1, TAPPED_BLOCKS + 1)} - {0}
        return tuple(f"block{index}" for index in sorted(chosen, reverse=True))

    def for_inference(self) -> Self:
        """Itself: there is nothing to fold."""
        return self

    def forward(self, input_BCHW: Tensor, taps: Collection[str]) -> Features:
        """Normalised images whose sides are multiples of the patch -> those taps, the deepest first."""
        height, width = input_BCHW.shape[-2] // self.patch, input_BCHW.shape[-1] // self.patch
        # Only the plain ViT must be told that the image may have another size than its position embeddings.
        options = {"interpolate_pos_encoding": True} if self.model.config.model_type == "vit" else {}
        hidden = self.model(input_BCHW, output_hidden_states=True, **options).hidden_states
        return {
            name: self._map(hidden[int(name.removeprefix("block"))], height, width)
            for name in self.channels
            if name in taps
        }

    def _map(self, tokens_BTC: Tensor, height: int, width: int) -> Tensor:
        """The patch tokens, which stand behind class and register tokens, as an image BCHW."""
        patches_BTC: Tensor = self.norm(tokens_BTC)[:, -height * width :]
        return patches_BTC.transpose(1, 2).unflatten(2, (height, width))

    def save(self, directory: Path) -> None:
        """Writes a `transformers` directory with safetensors and the preprocessor's mean and spread."""
        self.model.save_pretrained(directory, safe_serialization=True)
        said = {"image_mean": list(self.mean), "image_std": list(self.std), "rescale_factor": 1 / 255}
        (directory / PREPROCESSOR).write_text(json.dumps(said, indent=1) + "\n")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Reads a local `transformers` directory; raises ValueError for other networks and for missing weights."""
        kind = json.loads((directory / "config.json").read_text()).get("model_type")
        if kind not in CLASSES:
            raise ValueError(f"{directory.name}/config.json names the network {kind}; known are {sorted(CLASSES)}")
        # Without its pooling layer, which no tap sees and some checkpoints lack.
        options = {"add_pooling_layer": False} if kind == "vit" else {}
        model, found = CLASSES[kind].from_pretrained(
            directory,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
        if missing := sorted(found["missing_keys"]):
            raise ValueError(f"{directory.name}: {len(missing)} weights are missing, the first is {missing[0]}")
        path = directory / PREPROCESSOR
        said = json.loads(path.read_text()) if path.exists() else {}
        return cls(model, tuple(said.get("image_mean", IMAGENET_MEAN)), tuple(said.get("image_std", IMAGENET_STD)))
