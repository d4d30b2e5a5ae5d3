"""Latent diffusion with a UNet that reads prompts: the Stable Diffusion 1.x, 2.x and XL layouts of diffusers.

Axes: B batch, C channel, H height, W width. Images are float in [-1, 1], BCHW.
Parts: `unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`, and `text_encoder_2`, `tokenizer_2` for XL; safety checkers,
image encoders and refiners are not read. The prompts are few and known: each is read once, at loading, on the
processor, so that the text encoders take no memory of the accelerator.
Features are the UNet's decoder maps; the finest lies at the autoencoder's stride (method.md 1.2).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from models.generators.directory import SCHEDULERS, check_directory, read_facts, write_facts
from models.generators.latents import LatentCodec, LatentFacts, LatentGenerator
from models.generators.parts import load_latent_scheduler, load_network, load_tokenizer, save_parts
from models.generators.prompts import PromptStates, read_prompts
from models.generators.taps import decoder_taps, default_decoder_taps

TOKENIZERS = frozenset({"transformers.CLIPTokenizer", "transformers.CLIPTokenizerFast"})
PARTS = {
    "unet": frozenset({"diffusers.UNet2DConditionModel"}),
    "vae": frozenset({"diffusers.AutoencoderKL"}),
    "text_encoder": frozenset({"transformers.CLIPTextModel"}),
    "tokenizer": TOKENIZERS,
    "scheduler": SCHEDULERS,
}
SECOND_ENCODER = {
    "text_encoder_2": frozenset({"transformers.CLIPTextModelWithProjection"}),
    "tokenizer_2": TOKENIZERS,
}


@dataclass(kw_only=True)
class PromptFacts(LatentFacts):
    """What `generator.json` adds."""

    guidance_scale: float = 7.5
    prompt: str = ""
    """What real images are encoded under, and what sampled ones show unless `prompts` says more."""
    prompts: tuple[str, ...] | None = None
    """What sampled images show: each draws one by its seed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompts is not None and not self.prompts:
            raise ValueError("prompts must name at least one prompt, or be left out")


class LatentDiffusionGenerator(LatentGenerator):
    """Implements `models.contracts.Generator` for the Stable Diffusion layouts."""

    family = "latent_diffusion"
    facts: PromptFacts

    def __init__(self, parts: dict[str, Any], facts: PromptFacts, *, zeros_say_nothing: bool = True) -> None:
        """`parts` as in `model_index.json`; `zeros_say_nothing` is XL's `force_zeros_for_empty_prompt`."""
        unet = parts["unet"]
        codec = LatentCodec(parts["vae"], facts.image_size)
        _check_unet(unet, codec, facts.image_size, two_encoders="text_encoder_2" in parts)
        super().__init__(unet, parts["scheduler"], codec, decoder_taps(unet), facts)
        self._parts, self._zeros_say_nothing = parts, zeros_say_nothing
        self._states: PromptStates
        self._read_prompts()

    @classmethod
    def load(cls, directory: Path | str, device: torch.device | str = "cpu") -> Self:
        """Reads a local diffusers directory with a `generator.json`.

        Raises UnsafeDirectory for code, pickles, links that leave it and foreign classes, OSError for missing files,
        ValueError for parts that do not fit each other.
        """
        root = Path(directory)
        index = check_directory(root, PARTS)
        parts = {
            "unet": load_network(root, "unet", UNet2DConditionModel),
            "vae": load_network(root, "vae", AutoencoderKL),
            "text_encoder": load_network(root, "text_encoder", CLIPTextModel),
            "tokenizer": load_tokenizer(root, "tokenizer", CLIPTokenizer),
            "scheduler": load_latent_scheduler(root),
        }
        if "text_encoder_2" in index:
            check_directory(root, SECOND_ENCODER)
            parts["text_encoder_2"] = load_network(root, "text_encoder_2", CLIPTextModelWithProjection)
            parts["tokenizer_2"] = load_tokenizer(root, "tokenizer_2", CLIPTokenizer)
        facts = read_facts(root, PromptFacts, tap_names=default_decoder_taps(parts["unet"]))
        zeros_say_nothing = bool(index.get("force_zeros_for_empty_prompt", True))
        return cls(parts, facts, zeros_say_nothing=zeros_say_nothing).to(device)

    def save(self, directory: Path | str) -> None:
        """Writes a diffusers directory with float16 safetensors, and `generator.json`."""
        root = Path(directory)
        root.mkdir(parents=True, exist_ok=True)
        if self._is_xl:
            options = {"force_zeros_for_empty_prompt": self._zeros_say_nothing}
            save_parts(root, "StableDiffusionXLPipeline", self._parts, options)
        else:
            unread = {"safety_checker": [None, None], "feature_extractor": [None, None]}
            save_parts(root, "StableDiffusionPipeline", self._parts, unread)
        write_facts(root, self.family, asdict(self.facts))

    def to(self, device: torch.device | str) -> Self:
        """Moves UNet, autoencoder and what the prompts say; the text encoders stay."""
        self._denoiser.to(device)
        self._codec.vae.to(device)
        self._states = self._states.to(device)
        return self

    @property
    def _is_xl(self) -> bool:
        return "text_encoder_2" in self._parts

    def _read_prompts(self) -> None:
        """Conditions are places in the table of read prompts; place 0 says nothing."""
        shown = self.facts.prompts or (self.facts.prompt,)
        texts = list(dict.fromkeys(["", self.facts.prompt, *shown]))
        encoders = [(self._parts["tokenizer"], self._parts["text_encoder"])]
        if self._is_xl:
            encoders.append((self._parts["tokenizer_2"], self._parts["text_encoder_2"]))
        self._states = read_prompts(texts, encoders)
        first = 0
        if self._is_xl and self._zeros_say_nothing:
            self._states, first = self._states.after_nothing(), 1
        self.untold = 0
        self.told = first + texts.index(self.facts.prompt)
        self.offered = tuple(first + texts.index(text) for text in shown)

    def _ask(self, latents_BCHW: Tensor, timestep: int | Tensor, conditions_B: Tensor) -> Tensor:
        states = self._states.chosen(conditions_B)
        added = None
        if states.pooled_PD is not None:
            # XL is also told the image's size before and after cropping, and where it was cropped (section 2.2).
            height, width = self.image_size[1:]
            sizes_B6 = torch.tensor([[height, width, 0, 0, height, width]], device=self.device)
            added = {"text_embeds": states.pooled_PD, "time_ids": sizes_B6.repeat(len(conditions_B), 1)}
        answer_BCHW: Tensor = self._denoiser(
            latents_BCHW, timestep, encoder_hidden_states=states.hidden_PTD, added_cond_kwargs=added
        ).sample
        return answer_BCHW


def _check_unet(
    unet: UNet2DConditionModel, codec: LatentCodec, image_size: Sequence[int], *, two_encoders: bool
) -> None:
    """Raises ValueError for a UNet that is told more than prompts, or that does not fit the image size."""
    wanted = "text_time" if two_encoders else None
    said = {"addition_embed_type": wanted, "class_embed_type": None, "encoder_hid_dim_type": None}
    for key, value in said.items():
        if unet.config[key] != value:
            raise ValueError(
                f"unet/config.json: {key} is {unet.config[key]}; only Stable Diffusion 1, 2 and XL are read"
            )
    unit = codec.stride * 2 ** (len(unet.config.block_out_channels) - 1)
    if image_size[1] % unit or image_size[2] % unit:
        raise ValueError(f"generator.json: sides of image_size {list(image_size)} must be multiples of {unit}")
