"""A diffusion generator over diffusers' `UNet2DModel`, with feature taps on its decoder.

Axes: B batch, C channel, H height, W width. Images are float in [-1, 1], BCHW.
The network sees *latents*: the image pixel-unshuffled by `patch_size`, so C * patch_size**2 channels at 1 / patch_size
of the height and width (the cheapest way to a 64x64 generator on a processor; nothing is lost, it is a reshape).
Sides that the network cannot halve as often as it must are padded at the bottom and on the right with their last
pixels; samples and features are cropped again, so that nobody outside sees it.
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad, pixel_shuffle, pixel_unshuffle

from models.contracts import Features
from models.generators.diffusion import DiffusionFacts, DiffusionGenerator, drawn_noise
from models.generators.directory import FACTS_FILE, check_directory, read_facts, write_facts
from models.generators.network import NetworkConfig, build_unet, padded_size
from models.generators.taps import decoder_taps, default_decoder_taps

PARTS = {
    "unet": frozenset({"diffusers.UNet2DModel"}),
    "scheduler": frozenset({"diffusers.DDIMScheduler", "diffusers.DDPMScheduler"}),
}
CLEAN_TAP = "clean"
"""Name of the finest tap: the network's guess of the clean image, at full resolution."""


@dataclass(kw_only=True)
class GeneratorFacts(DiffusionFacts):
    """What `generator.json` adds to a diffusers directory."""

    patch_size: int
    """Factor by which pixels are folded into channels."""


class UNetDiffusionGenerator(DiffusionGenerator):
    """Implements `models.contracts.Generator` for pixel diffusion with a `UNet2DModel`."""

    family = "unet_diffusion"
    fine_tuning_rate = 2e-4
    facts: GeneratorFacts

    def __init__(self, unet: UNet2DModel, scheduler: DDIMScheduler, facts: GeneratorFacts) -> None:
        self.unet = unet.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.facts = facts
        super().__init__(unet, scheduler, decoder_taps(unet), facts.patch_size)
        unit = facts.patch_size << (len(unet.config.block_out_channels) - 1)
        self._padded_hw = padded_size(facts.image_size[1:], unit)
        self.select_taps(facts.tap_names)

    # --- making, loading, saving -------------------------------------------------------------------------------

    @classmethod
    def build(cls, image_size: tuple[int, int, int], network: NetworkConfig, *, seed: int = 0) -> Self:
        """A generator with random weights for images of `image_size` (C, H, W)."""
        padded_hw = padded_size(image_size[1:], network.unit)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet = build_unet(image_size[0] * network.patch_size**2, padded_hw, network)
        scheduler = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
        )
        facts = GeneratorFacts(
            patch_size=network.patch_size, image_size=image_size, tap_names=tuple(default_decoder_taps(unet))
        )
        return cls(unet, scheduler, facts)

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> Self:
        """Reads a local diffusers directory; one without `generator.json` is taken as a plain pixel pipeline.

        Raises UnsafeDirectory for code, pickles or links that leave it; OSError for missing files; ValueError for a card
        that does not fit.
        """
        root = Path(directory)
        check_directory(root, PARTS)
        unet = UNet2DModel.from_pretrained(
            root / "unet",
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
        )
        scheduler = DDIMScheduler.from_pretrained(root / "scheduler", local_files_only=True)
        if (root / FACTS_FILE).exists():
            facts = read_facts(root, GeneratorFacts, tap_names=default_decoder_taps(unet))
        else:
            facts = plain_facts(unet)
        return cls(unet, scheduler, facts).to(device)

    def save(self, directory: Path | str) -> None:
        """Writes a diffusers directory with float16 safetensors, and `generator.json`."""
        root = Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        half = copy.deepcopy(self.unet).half()
        DDIMPipeline(half, self.scheduler).save_pretrained(root, safe_serialization=True)
        write_facts(root, self.family, asdict(self.facts))

    def to(self, device: torch.device | str) -> Self:
        """Moves the network; results then lie on that device."""
        self.unet.to(device)
        return self

    # --- what the network sees and shows -----------------------------------------------------------------------

    @property
    def available_taps(self) -> dict[str, tuple[int, int]]:
        """The decoder's taps, and the guess of the clean image."""
        return {**super().available_taps, CLEAN_TAP: (self.image_size[0], 1)}

    def to_latent(self, images_BCHW: Tensor) -> Tensor:
        """Image -> what the network sees, channels last in memory."""
        bottom, right = (self._padded_hw[axis] - images_BCHW.shape[2 + axis] for axis in (0, 1))
        if bottom or right:
            images_BCHW = pad(images_BCHW, (0, right, 0, bottom), mode="replicate")
        latents_BCHW: Tensor = pixel_unshuffle(images_BCHW, self.facts.patch_size)
        return latents_BCHW.contiguous(memory_format=torch.channels_last)

    def to_image(self, latents_BCHW: Tensor) -> Tensor:
        """The inverse of `to_latent`."""
        images_BCHW: Tensor = pixel_shuffle(latents_BCHW, self.facts.patch_size)
        height, width = self.image_size[1:]
        return images_BCHW[:, :, :height, :width].contiguous()

    def _noise(self, seeds: Sequence[int]) -> Tensor:
        """Drawn as images, so that the fold does not change what a seed draws."""
        return self.to_latent(drawn_noise((self.image_size[0], *self._padded_hw), seeds, self.device))

    def _predict(self, latents_BCHW: Tensor, timestep: int | Tensor, conditions: Any) -> Tensor:
        """The network is told nothing but the time."""
        del conditions
        output_BCHW: Tensor = self.unet(latents_BCHW, timestep).sample
        return output_BCHW

    def _features(self, recorded: Features, clean_BCHW: Tensor | None) -> Features:
        """Cropped to the image; with the guess of the clean image, where it is selected."""
        if self._padded_hw != self.image_size[1:]:
            recorded = {
                name: self._cropped(map_BCHW, self.available_taps[name][1]) for name, map_BCHW in recorded.items()
            }
        if clean_BCHW is not None:
            recorded = {**recorded, CLEAN_TAP: self.to_image(clean_BCHW)}
        return super()._features(recorded, clean_BCHW)

    def _cropped(self, map_BCHW: Tensor, stride: int) -> Tensor:
        """The part of a feature map that lies over the image; between pixels where the stride does not divide it."""
        height, width = (-(-side // stride) for side in self.image_size[1:])
        if not any(side % stride for side in self.image_size[1:]):
            return map_BCHW[:, :, :height, :width]
        share_H, share_W = (side / padded for side, padded in zip(self.image_size[1:], self._padded_hw, strict=True))
        corner_23 = torch.tensor([[share_W, 0.0, share_W - 1.0], [0.0, share_H, share_H - 1.0]], device=map_BCHW.device)
        theta_B23 = corner_23.expand(len(map_BCHW), 2, 3)
        grid_BHW2 = affine_grid(theta_B23, [len(map_BCHW), 1, height, width], align_corners=False)
        return grid_sample(map_BCHW.float(), grid_BHW2, padding_mode="border", align_corners=False)


def plain_facts(unet: UNet2DModel) -> GeneratorFacts:
    """What a plain pixel pipeline implies."""
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    names = tuple(default_decoder_taps(unet))
    return GeneratorFacts(patch_size=1, image_size=(unet.config.in_channels, height, width), tap_names=names)
