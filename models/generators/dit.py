"""Latent diffusion with a transformer that is told a class: diffusers' DiT layout (Peebles & Xie 2023).

Axes: B batch, C channel, H height, W width. Images are float in [-1, 1], BCHW, and square, as DiT is.
Parts: `transformer`, `vae`, `scheduler`. Features are the outputs of chosen blocks, laid out again as maps of patches:
all have the same stride, the autoencoder's times the patch size. Real images are encoded under `class_label`, or under
the class that was trained to say nothing.
Not supported: transformers that attend to text jointly with the image or follow a straight flow (SD3, Flux, PixArt,
Sana); their text encoders, schedules and blocks differ so much that each needs a file of its own.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, DiTTransformer2DModel
from torch import Tensor

from models.generators.directory import SCHEDULERS, check_directory, read_facts, write_facts
from models.generators.latents import LatentCodec, LatentFacts, LatentGenerator
from models.generators.parts import load_latent_scheduler, load_network, save_parts
from models.generators.taps import block_taps

PARTS = {
    # The first DiT checkpoints name the class that DiT was once a case of.
    "transformer": frozenset({"diffusers.DiTTransformer2DModel", "diffusers.Transformer2DModel"}),
    "vae": frozenset({"diffusers.AutoencoderKL"}),
    "scheduler": SCHEDULERS,
}


@dataclass(kw_only=True)
class ClassFacts(LatentFacts):
    """What `generator.json` adds."""

    guidance_scale: float = 4.0
    class_label: int | None = None
    """The class of real images, and of sampled ones unless `class_labels` says more; null: none."""
    class_labels: tuple[int, ...] | None = None
    """Classes of sampled images: each draws one by its seed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.class_labels is not None and not self.class_labels:
            raise ValueError("class_labels must name at least one class, or be left out")


class DiTGenerator(LatentGenerator):
    """Implements `models.contracts.Generator` for the DiT layout."""

    family = "dit"
    facts: ClassFacts

    def __init__(self, parts: dict[str, Any], facts: ClassFacts) -> None:
        transformer: DiTTransformer2DModel = parts["transformer"]
        codec, config = LatentCodec(parts["vae"], facts.image_size), transformer.config
        _, height, width = codec.latent_size
        if (height, width) != (config.sample_size, config.sample_size):
            side = config.sample_size * codec.stride
            raise ValueError(
                f"generator.json: image_size is {list(facts.image_size)}, this transformer makes {side}x{side}"
            )
        side = config.sample_size // config.patch_size
        taps = block_taps(transformer.transformer_blocks, transformer.inner_dim, config.patch_size, (side, side))
        super().__init__(transformer, parts["scheduler"], codec, taps, facts)
        self._parts = parts
        self._choose_conditions(int(config.num_embeds_ada_norm))

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> Self:
        """Reads a local diffusers directory with a `generator.json`.

        Raises UnsafeDirectory for code, pickles, links that leave it and foreign classes, OSError for missing files,
        ValueError for parts that do not fit each other.
        """
        root = Path(directory)
        check_directory(root, PARTS)
        parts = {
            "transformer": load_network(root, "transformer", DiTTransformer2DModel),
            "vae": load_network(root, "vae", AutoencoderKL),
            "scheduler": load_latent_scheduler(root),
        }
        facts = read_facts(root, ClassFacts, tap_names=default_blocks(parts["transformer"].config.num_layers))
        return cls(parts, facts).to(device)

    def save(self, directory: Path | str) -> None:
        """Writes a diffusers directory with float16 safetensors, and `generator.json`."""
        root = Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        save_parts(root, "DiTPipeline", self._parts, {})
        write_facts(root, self.family, asdict(self.facts))

    def to(self, device: torch.device | str) -> Self:
        """Moves the networks; results then lie on that device."""
        self._denoiser.to(device)
        self._codec.vae.to(device)
        return self

    def _choose_conditions(self, num_classes: int) -> None:
        """Conditions are classes; the one after the last was trained to say nothing."""
        self.untold = num_classes
        self.told = num_classes if self.facts.class_label is None else self.facts.class_label
        self.offered = self.facts.class_labels or (self.told,)
        if wrong := [label for label in (self.told, *self.offered) if not 0 <= label <= num_classes]:
            raise ValueError(f"generator.json: the classes are 0 to {num_classes - 1}, got {wrong}")

    def _ask(self, latents_BCHW: Tensor, timestep: int | Tensor, conditions_B: Tensor) -> Tensor:
        times_B = torch.as_tensor(timestep, device=conditions_B.device).expand_as(conditions_B)
        answer_BCHW: Tensor = self._denoiser(latents_BCHW, timestep=times_B, class_labels=conditions_B).sample
        # Where the transformer also learned a variance, it stands in the second half; sampling without noise needs none.
        return answer_BCHW[:, : self._codec.latent_size[0]]


def default_blocks(num_layers: int) -> list[str]:
    """The blocks at a quarter, a half and three quarters of the depth: contents, neither patches nor noise."""
    return list(dict.fromkeys(f"block{num_layers * quarter // 4}" for quarter in (1, 2, 3)))
