"""Tiny real networks and examples whose labels can be read off the pixels."""

import numpy as np
import torch
from transformers import Dinov2Config, Dinov2Model

from models.contracts import ClassSpec
from models.encoders.image_encoder import EncoderFacts, ImageEncoder
from models.encoders.vision_transformer import VisionTransformer
from models.examples import Example
from models.generators.unet_diffusion import NetworkConfig, UNetDiffusionGenerator

STUFF = [ClassSpec("ground", background=True), ClassSpec("disc")]
THINGS = [ClassSpec("ground", background=True), ClassSpec("disc", thing=True)]


def tiny_generator() -> UNetDiffusionGenerator:
    """A real generator with random weights for 32x32 images."""
    return UNetDiffusionGenerator.build((3, 32, 32), NetworkConfig((8, 16), attention=False))


def tiny_transformer() -> VisionTransformer:
    """A real DINOv2 network with random weights and patches of 7 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=56, patch_size=7, mlp_ratio=2
        )
        return VisionTransformer(Dinov2Model(config), (0.5, 0.4, 0.3), (0.2, 0.3, 0.25))


def tiny_encoder() -> ImageEncoder:
    """A frozen encoder for 32x32 images, seen at 56x56: a feature pixel per 4 pixels."""
    return ImageEncoder(tiny_transformer(), EncoderFacts("vision_transformer", (3, 32, 32), input_scale=1.75))


def disc_examples(count: int, *, seed: int = 0, size: int = 32) -> list[Example]:
    """Bright discs on dark ground; two discs per image, ids 1 and 2."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    examples = []
    for _ in range(count):
        label, instances = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint16)
        for instance in (1, 2):
            y, x = draw.uniform(6, size - 6, 2)
            inside = (rows - y) ** 2 + (columns - x) ** 2 < draw.uniform(4, 7) ** 2
            label[inside], instances[inside] = 1, instance
        image = np.where(label[..., None] == 1, 200, 60) + draw.normal(0, 12, (size, size, 3))
        examples.append(Example(image.clip(0, 255).astype(np.uint8), label, instances))
    return examples


def rare_examples(count: int) -> list[Example]:
    """One small bright patch per image: one pixel in eighty is of class 1."""
    examples = []
    for seed in range(count):
        draw = np.random.default_rng(seed)
        label = np.zeros((32, 32), np.uint8)
        y, x = draw.integers(2, 26, 2)
        label[y : y + 4, x : x + 3] = 1
        image = np.where(label[..., None] == 1, 220, 60) + draw.normal(0, 8, (32, 32, 3))
        examples.append(Example(image.clip(0, 255).astype(np.uint8), label))
    return examples


def soft_dataset(examples: list[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The examples with labels that are 80 % sure."""
    return [
        (example.image_HWC, np.moveaxis(np.eye(2, dtype=np.float32)[example.label_HW] * 0.8 + 0.1, -1, 0))
        for example in examples
    ]
