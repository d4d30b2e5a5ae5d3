"""A tiny generator of every family, built from configurations with random weights and written by its own library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from models.generators.network import NetworkConfig
from models.generators.stylegan2 import StyleGAN2Generator
from models.generators.stylegan2_network import StyleGAN2Shape
from models.generators.unet_diffusion import UNetDiffusionGenerator

TOKENS = 16


def write_facts(directory: Path, family: str, **facts: Any) -> Path:
    (directory / "generator.json").write_text(json.dumps({"family": family, **facts}))
    return directory


def vae(levels: int = 3) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(4,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        norm_num_groups=2,
        latent_channels=4,
        scaling_factor=0.5,
    )


def scheduler(prediction: str = "epsilon") -> DDIMScheduler:
    """The noise schedule of Stable Diffusion."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )


def tokenizer() -> CLIPTokenizer:
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=TOKENS)


def text_config(hidden: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=54,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=hidden,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )


def text_unet(levels: int, **changes: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,) * (levels - 1) + (16,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
        norm_num_groups=4,
        attention_head_dim=4,
        **{"cross_attention_dim": 16, **changes},
    )


def latent_diffusion(
    directory: Path,
    *,
    size: tuple[int, int] = (32, 64),
    levels: tuple[int, int] = (3, 2),
    prediction: str = "epsilon",
    **facts: Any,
) -> Path:
    """Stable Diffusion 1 (epsilon) or 2 (v); `levels` of autoencoder and UNet."""
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=vae(levels[0]),
        text_encoder=CLIPTextModel(text_config(16)),
        tokenizer=tokenizer(),
        unet=text_unet(levels[1]),
        scheduler=scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(directory)
    return write_facts(directory, "latent_diffusion", **{"image_size": [3, *size], "prompt": "a cell", **facts})


def latent_diffusion_xl(directory: Path, *, size: tuple[int, int] = (32, 64), **facts: Any) -> Path:
    """SDXL: two text encoders, pooled states and sizes."""
    torch.manual_seed(0)
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 4}
    StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config(8)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(16)),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=text_unet(2, cross_attention_dim=24, projection_class_embeddings_input_dim=16 + 6 * 4, **added),
        scheduler=scheduler(),
        add_watermarker=False,
    ).save_pretrained(directory)
    return write_facts(directory, "latent_diffusion", **{"image_size": [3, *size], "prompt": "a cell", **facts})


def dit(directory: Path, *, side: int = 32, patch_size: int = 2, **facts: Any) -> Path:
    """DiT with a learned variance, as its first checkpoints have."""
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=4,
        sample_size=side // 4,
        patch_size=patch_size,
        num_embeds_ada_norm=10,
    )
    # As it starts, a DiT answers nothing but zeros.
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    DiTPipeline(transformer, vae(), scheduler()).save_pretrained(directory)
    return write_facts(directory, "dit", **{"image_size": [3, side, side], "class_label": 3, **facts})


def stylegan2(directory: Path, **facts: Any) -> Path:
    """Four sides, 4 to 32."""
    generator = StyleGAN2Generator.build(StyleGAN2Shape(8, 8, 2, 3, (8, 8, 8, 4)))
    torch.manual_seed(1)
    for name, parameter in generator.network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.fill_(0.1)
    generator.save(directory)
    return write_facts(directory, "stylegan2", **{"image_size": [3, 32, 32], **facts})


def unet_diffusion(directory: Path) -> Path:
    UNetDiffusionGenerator.build((3, 16, 32), NetworkConfig((8, 16), layers_per_block=1)).save(directory)
    return directory


TINY: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "unet_diffusion": ("unet_diffusion", unet_diffusion),
    "latent_diffusion": ("latent_diffusion", latent_diffusion),
    "latent_diffusion_xl": ("latent_diffusion", latent_diffusion_xl),
    "dit": ("dit", dit),
    "stylegan2": ("stylegan2", stylegan2),
}
"""Layout -> (its family, what writes a directory of it)."""
