"""The families of feature sources by name, each one file; `service/generator_families.py` says what jobs may ask of them."""

import json
from pathlib import Path
from typing import Protocol, Self

import torch

from models.contracts import FeatureSource
from models.encoders.image_encoder import ImageEncoder
from models.generators.directory import FACTS_FILE
from models.generators.dit import DiTGenerator
from models.generators.latent_diffusion import LatentDiffusionGenerator
from models.generators.stylegan2 import StyleGAN2Generator
from models.generators.unet_diffusion import UNetDiffusionGenerator


class FeatureSourceClass(FeatureSource, Protocol):
    """A family: a generator or encoder that knows how to be loaded."""

    @classmethod
    def load(cls, directory: Path, device: torch.device | str = "cpu") -> Self:
        """Reads a checked local directory of safetensors and JSON.

        Raises UnsafeDirectory for code, pickles, foreign classes or links that leave it; OSError for missing files.
        """


FAMILIES: dict[str, type[FeatureSourceClass]] = {
    UNetDiffusionGenerator.family: UNetDiffusionGenerator,
    ImageEncoder.family: ImageEncoder,
    LatentDiffusionGenerator.family: LatentDiffusionGenerator,
    DiTGenerator.family: DiTGenerator,
    StyleGAN2Generator.family: StyleGAN2Generator,
}


def load_source(directory: Path, device: torch.device | str = "cpu") -> FeatureSource:
    """Reads a directory of the family its `generator.json` names; without that file it is a plain pixel pipeline.

    Raises ValueError for a family that is none of ours, and what the family's `load` raises.
    """
    path = directory / FACTS_FILE
    said = json.loads(path.read_text()) if path.exists() else {}
    family = said.get("family", UNetDiffusionGenerator.family)
    if family not in FAMILIES:
        raise ValueError(f"{path} names the family {family}, known are {sorted(FAMILIES)}")
    return FAMILIES[family].load(directory, device)
