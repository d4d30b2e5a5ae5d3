"""A diffusion generator over diffusers' `UNet2DModel`, with feature taps on its decoder.

Axes: B batch, C channel, H height, W width. Images are float in [-1, 1], BCHW.
The network sees *latents*: the image pixel-unshuffled by `patch_size`, so C * patch_size**2 channels at 1 / patch_size
of the height and width (the cheapest way to a 64x64 generator on a processor; nothing is lost, it is a reshape).
Features follow DDPM-seg and DreamTeacher (method.md 1.1, 1.2, 4.6): decoder maps of one denoising pass at timestep t.
"""

import copy
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from models.contracts import Features
from models.generators.directory import check_directory
from models.generators.network import NetworkConfig, build_unet
from models.generators.taps import DecoderTaps
from models.precision import mixed_precision

CLEAN_TAP = "clean"
"""Name of the finest tap: the network's guess of the clean image, at full resolution."""


@dataclass
class GeneratorFacts:
    """What `generator.json` adds to a diffusers directory."""

    patch_size: int
    image_size: tuple[int, int, int]
    """(C, H, W)."""
    tap_names: tuple[str, ...]
    """Taps that `sample` and `encode` return, coarse to fine."""
    tap_timestep: int = 50
    training: dict[str, Any] = field(default_factory=dict)
    """What is known of its making: steps, images, seconds, losses, seed, data licence."""


class UNetDiffusionGenerator:
    """Implements `models.contracts.Generator` for pixel diffusion with a `UNet2DModel`."""

    family = "unet_diffusion"
    can_sample = True
    can_encode = True

    def __init__(self, unet: UNet2DModel, scheduler: DDIMScheduler, facts: GeneratorFacts) -> None:
        self.unet = unet.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.scheduler = scheduler
        self.facts = facts
        self._taps = DecoderTaps(unet)
        self.select_taps(facts.tap_names)

    # --- making, loading, saving -------------------------------------------------------------------------------

    @classmethod
    def build(cls, image_size: tuple[int, int, int], network: NetworkConfig, *, seed: int = 0) -> Self:
        """A generator with random weights for images of `image_size` (C, H, W); raises ValueError if sizes clash."""
        channels, height, width = image_size
        unit = network.patch_size * 2 ** (len(network.block_out_channels) - 1)
        if height % unit or width % unit:
            raise ValueError(f"image height and width must be multiples of {unit}, got {height}x{width}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            unet = build_unet(channels * network.patch_size**2, (height, width), network)
        scheduler = DDIMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", timestep_spacing="trailing"
        )
        facts = GeneratorFacts(network.patch_size, image_size, tuple(default_taps(unet)))
        return cls(unet, scheduler, facts)

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> Self:
        """Reads a local diffusers directory; one without `generator.json` is taken as a plain pixel pipeline.

        Raises UnsafeDirectory for code, pickles or links that leave it; OSError for missing files.
        """
        root = Path(directory)
        check_directory(root)
        unet = UNet2DModel.from_pretrained(
            root / "unet",
            use_safetensors=True,
            local_files_only=True,
            low_cpu_mem_usage=False,
            torch_dtype=torch.float32,
        )
        scheduler = DDIMScheduler.from_pretrained(root / "scheduler", local_files_only=True)
        return cls(unet, scheduler, read_facts(root, unet)).to(device)

    def save(self, directory: Path | str) -> None:
        """Writes a diffusers directory with float16 safetensors, and `generator.json`."""
        root = Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        half = copy.deepcopy(self.unet).half()
        DDIMPipeline(half, self.scheduler).save_pretrained(root, safe_serialization=True)
        (root / "generator.json").write_text(json.dumps({"family": self.family, **asdict(self.facts)}, indent=1) + "\n")

    def to(self, device: torch.device | str) -> Self:
        """Moves the network; results then lie on that device."""
        self.unet.to(device)
        return self

    # --- what it is --------------------------------------------------------------------------------------------

    @property
    def image_size(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.facts.image_size

    @property
    def tap_timestep(self) -> int:
        """Default timestep of the taps."""
        return self.facts.tap_timestep

    @property
    def num_train_timesteps(self) -> int:
        """Length of the diffusion."""
        return int(self.scheduler.config.num_train_timesteps)

    @property
    def num_parameters(self) -> int:
        """Parameters of the denoiser."""
        return sum(p.numel() for p in self.unet.parameters())

    @property
    def device(self) -> torch.device:
        """Where the denoiser lies."""
        return next(self.unet.parameters()).device

    @property
    def available_taps(self) -> tuple[str, ...]:
        """Every tap that `select_taps` knows, coarse to fine."""
        return (*self._taps.channels, CLEAN_TAP)

    @property
    def tap_channels(self) -> dict[str, int]:
        """Selected tap -> channels, coarse to fine."""
        every = {**self._taps.channels, CLEAN_TAP: self.image_size[0]}
        return {name: every[name] for name in self.facts.tap_names}

    @property
    def tap_strides(self) -> dict[str, int]:
        """Selected tap -> image pixels per feature pixel."""
        every = {name: stride * self.facts.patch_size for name, stride in self._taps.strides.items()}
        return {name: {**every, CLEAN_TAP: 1}[name] for name in self.facts.tap_names}

    def select_taps(self, names: Sequence[str]) -> None:
        """Chooses which of `available_taps` are returned; kept by `save`. Raises ValueError for an unknown name."""
        unknown = set(names) - set(self.available_taps)
        if unknown or not names:
            raise ValueError(f"unknown taps {sorted(unknown)}, known are {self.available_taps}")
        self.facts.tap_names = tuple(name for name in self.available_taps if name in names)
        self._taps.select([name for name in self.facts.tap_names if name != CLEAN_TAP])

    # --- drawing and encoding ----------------------------------------------------------------------------------

    def sample(
        self, seeds: Sequence[int], *, num_steps: int = 50, tap_timestep: int | None = None
    ) -> tuple[Tensor, Features]:
        """One image per seed by DDIM, and the features of the step nearest `tap_timestep` (no extra pass).

        Returns images_BCHW float32 in [-1, 1] and features.
        """
        tapped = self.tapped_timestep(num_steps, tap_timestep)
        timesteps = [int(t) for t in self.scheduler.timesteps]
        latents_BCHW = self._noise(seeds)
        features: Features = {}
        for timestep in timesteps:
            latents_BCHW, clean_BCHW, recorded = self._denoise(latents_BCHW, timestep, record=timestep == tapped)
            if timestep == tapped:
                features = self._features(recorded, clean_BCHW)
        return self.to_image(latents_BCHW).clamp(-1, 1), features

    def tapped_timestep(self, num_steps: int, tap_timestep: int | None = None) -> int:
        """The sampling step nearest `tap_timestep`: give this to `encode` for features of the very same kind.

        Raises ValueError unless 1 <= num_steps <= num_train_timesteps.
        """
        target = self._checked(tap_timestep)
        if not 1 <= num_steps <= self.num_train_timesteps:
            raise ValueError(f"num_steps must be in [1, {self.num_train_timesteps}], got {num_steps}")
        self.scheduler.set_timesteps(num_steps)
        return min((int(t) for t in self.scheduler.timesteps), key=lambda t: abs(t - target))

    def encode(self, images_BCHW: Tensor, *, tap_timestep: int | None = None, seeds: Sequence[int]) -> Features:
        """Noises images in [-1, 1] to the timestep, one seed each, and returns the features of one pass."""
        if tuple(images_BCHW.shape[1:]) != self.image_size or len(seeds) != len(images_BCHW):
            raise ValueError(f"expected {len(seeds)} images of {self.image_size}, got {tuple(images_BCHW.shape)}")
        timestep = self._checked(tap_timestep)
        latents_BCHW = self.to_latent(images_BCHW.to(self.device, torch.float32))
        times_B = torch.full((len(seeds),), timestep, device=self.device)
        noised_BCHW = self.scheduler.add_noise(latents_BCHW, self._noise(seeds), times_B)
        self.scheduler.set_timesteps(self.num_train_timesteps)
        _, clean_BCHW, recorded = self._denoise(noised_BCHW, timestep, record=True)
        return self._features(recorded, clean_BCHW)

    def to_latent(self, images_BCHW: Tensor) -> Tensor:
        """Image -> what the network sees, channels last in memory."""
        latents_BCHW: Tensor = pixel_unshuffle(images_BCHW, self.facts.patch_size)
        return latents_BCHW.contiguous(memory_format=torch.channels_last)

    def to_image(self, latents_BCHW: Tensor) -> Tensor:
        """The inverse of `to_latent`."""
        images_BCHW: Tensor = pixel_shuffle(latents_BCHW, self.facts.patch_size)
        return images_BCHW.contiguous()

    def _checked(self, timestep: int | None) -> int:
        chosen = self.tap_timestep if timestep is None else timestep
        if not 0 <= chosen < self.num_train_timesteps:
            raise ValueError(f"tap_timestep must be in [0, {self.num_train_timesteps}), got {chosen}")
        return chosen

    def _noise(self, seeds: Sequence[int]) -> Tensor:
        """Unit noise as latents, each image from its own seed, drawn on the processor so that devices agree."""
        drawn = [torch.randn(self.image_size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return self.to_latent(torch.stack(drawn).to(self.device))

    def _denoise(self, latents_BCHW: Tensor, timestep: int, *, record: bool) -> tuple[Tensor, Tensor, Features]:
        """One step: the less noisy latents, the guess of the clean ones, and the recorded maps (empty if not asked)."""
        with torch.no_grad(), mixed_precision(self.device), self._taps.recording(record) as recorded:
            output_BCHW = self.unet(latents_BCHW, timestep).sample
        step = self.scheduler.step(output_BCHW.float(), timestep, latents_BCHW)
        return step.prev_sample, step.pred_original_sample, recorded

    def _features(self, recorded: Features, clean_BCHW: Tensor) -> Features:
        maps = {**recorded, CLEAN_TAP: self.to_image(clean_BCHW)}
        return {name: maps[name].float() for name in self.facts.tap_names}


def default_taps(unet: UNet2DModel) -> list[str]:
    """The last map of every decoder block before its upsampling, and the first of the finest block.

    What follows in the finest block turns into the noise that the network predicts and says little of the image's
    contents (docs/decisions/0005).
    """
    last = len(unet.up_blocks) - 1
    return [*(f"up{i}.{len(block.resnets) - 1}" for i, block in enumerate(unet.up_blocks) if i < last), f"up{last}.0"]


def read_facts(root: Path, unet: UNet2DModel) -> GeneratorFacts:
    """`generator.json` of a directory, or what a plain pixel pipeline implies."""
    path = root / "generator.json"
    if not path.exists():
        size = unet.config.sample_size
        height, width = (size, size) if isinstance(size, int) else size
        return GeneratorFacts(1, (unet.config.in_channels, height, width), tuple(default_taps(unet)))
    said = json.loads(path.read_text())
    channels, height, width = said["image_size"]
    return GeneratorFacts(
        patch_size=int(said["patch_size"]),
        image_size=(int(channels), int(height), int(width)),
        tap_names=tuple(said["tap_names"]),
        tap_timestep=int(said["tap_timestep"]),
        training=dict(said.get("training", {})),
    )
