"""Tiny real networks and examples whose labels can be read off the pixels."""

import numpy as np

from models.contracts import ClassSpec
from models.examples import Example
from models.generators.unet_diffusion import NetworkConfig, UNetDiffusionGenerator

STUFF = [ClassSpec("ground", background=True), ClassSpec("disc")]
THINGS = [ClassSpec("ground", background=True), ClassSpec("disc", thing=True)]


def tiny_generator() -> UNetDiffusionGenerator:
    """A real generator with random weights for 32x32 images."""
    return UNetDiffusionGenerator.build((3, 32, 32), NetworkConfig((8, 16), attention=False))


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


def soft_dataset(examples: list[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The examples with labels that are 80 % sure."""
    return [
        (example.image_HWC, np.moveaxis(np.eye(2, dtype=np.float32)[example.label_HW] * 0.8 + 0.1, -1, 0))
        for example in examples
    ]
