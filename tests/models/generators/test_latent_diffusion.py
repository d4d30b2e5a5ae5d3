"""Latent diffusion: the same images as diffusers' own pipelines, prompts by seed, sizes and parts that must fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from models.generators.latent_diffusion import LatentDiffusionGenerator
from models.generators.latents import LatentCodec
from tests.models.generators import tiny_families

STEPS, SEEDS = 3, [3, 8]


def noise(seeds: list[int]) -> torch.Tensor:
    return torch.stack([torch.randn(4, 8, 16, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def by_diffusers(pipeline: Any, prompt: str, guidance_scale: float) -> torch.Tensor:
    """What the pipeline itself draws, in [-1, 1]."""
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    images_BCHW = pipeline(
        [prompt] * len(SEEDS),
        height=32,
        width=64,
        num_inference_steps=STEPS,
        guidance_scale=guidance_scale,
        latents=noise(SEEDS),
        output_type="pt",
    ).images
    return images_BCHW * 2 - 1


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 everywhere: diffusers does not compute in mixed precision by itself."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_stable_diffusion_draws_what_diffusers_draws(tmp_path: Path, prediction: str, guidance_scale: float) -> None:
    tiny_families.latent_diffusion(tmp_path, prediction=prediction, guidance_scale=guidance_scale)
    ours_BCHW, _ = LatentDiffusionGenerator.load(tmp_path).sample(SEEDS, num_steps=STEPS)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, safety_checker=None, feature_extractor=None)
    torch.testing.assert_close(ours_BCHW, by_diffusers(pipeline, "a cell", guidance_scale), atol=1e-4, rtol=0)
    assert pipeline.scheduler.config.prediction_type == prediction


@pytest.mark.parametrize("prompt", ["a cell", ""])
def test_sdxl_draws_what_diffusers_draws(tmp_path: Path, prompt: str) -> None:
    tiny_families.latent_diffusion_xl(tmp_path, prompt=prompt, guidance_scale=5.0)
    generator = LatentDiffusionGenerator.load(tmp_path)
    ours_BCHW, _ = generator.sample(SEEDS, num_steps=STEPS)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path, add_watermarker=False)
    torch.testing.assert_close(ours_BCHW, by_diffusers(pipeline, prompt, 5.0), atol=1e-4, rtol=0)
    generator.save(tmp_path / "again")
    pipeline = StableDiffusionXLPipeline.from_pretrained(tmp_path / "again", add_watermarker=False, dtype=torch.float32)
    torch.testing.assert_close(ours_BCHW, by_diffusers(pipeline, prompt, 5.0), atol=0.05, rtol=0)


def test_the_prompt_changes_images_and_features(tmp_path: Path) -> None:
    cell = LatentDiffusionGenerator.load(tiny_families.latent_diffusion(tmp_path / "a"))
    face = LatentDiffusionGenerator.load(tiny_families.latent_diffusion(tmp_path / "b", prompt="the face of a cat"))
    assert (cell.sample([1], num_steps=STEPS)[0] - face.sample([1], num_steps=STEPS)[0]).abs().max() > 1e-3
    images_BCHW = torch.zeros(1, 3, 32, 64)
    ours, theirs = (generator.encode(images_BCHW, seeds=[1]) for generator in (cell, face))
    assert (ours["up1.0"] - theirs["up1.0"]).abs().max() > 1e-3


def test_every_image_draws_its_prompt_by_its_seed(tmp_path: Path) -> None:
    prompts = ["a dog", "a cat"]
    both = LatentDiffusionGenerator.load(tiny_families.latent_diffusion(tmp_path / "both", prompts=prompts))
    alone = [
        LatentDiffusionGenerator.load(tiny_families.latent_diffusion(tmp_path / prompt, prompt=prompt))
        for prompt in prompts
    ]
    seeds = list(range(12))
    drawn_BCHW = both.sample(seeds, num_steps=1)[0]
    near = torch.stack([(drawn_BCHW - one.sample(seeds, num_steps=1)[0]).abs().amax((1, 2, 3)) for one in alone])
    assert near.min(dim=0).values.max() < 1e-4
    assert 2 < int((near[0] < near[1]).sum()) < 10


def test_features_ride_along_in_as_many_passes_as_steps(tmp_path: Path) -> None:
    generator = LatentDiffusionGenerator.load(tiny_families.latent_diffusion(tmp_path, guidance_scale=5.0))
    calls: list[int] = []
    generator._denoiser.register_forward_pre_hook(lambda _module, inputs: calls.append(len(inputs[0])))
    _, features = generator.sample([1], num_steps=STEPS, tap_timestep=400)
    assert calls == [2] * STEPS
    assert all(len(map_BCHW) == 1 for map_BCHW in features.values())
    generator.encode(torch.zeros(1, 3, 32, 64), seeds=[1])
    assert calls == [2] * STEPS + [1]


def test_features_of_a_sampling_step_are_those_of_encoding_at_its_time(tmp_path: Path) -> None:
    generator = LatentDiffusionGenerator.load(tiny_families.latent_diffusion(tmp_path, guidance_scale=5.0))
    seen: list[torch.Tensor] = []
    generator._denoiser.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0][-1:]))
    _, sampled = generator.sample([1], num_steps=STEPS, tap_timestep=500)
    assert generator.tapped_timestep(STEPS, 500) == 334
    # The same latents, asked once more as encoding asks.
    with generator._taps.recording() as recorded:
        generator._predict(seen[1], 334, generator._encoding_conditions(1))
    for name, map_BCHW in sampled.items():
        torch.testing.assert_close(map_BCHW, recorded[name], atol=1e-4, rtol=1e-4)


def test_coarse_strides_of_a_deep_network(tmp_path: Path) -> None:
    directory = tiny_families.latent_diffusion(tmp_path, size=(64, 128), levels=(4, 4))
    generator = LatentDiffusionGenerator.load(directory)
    assert list(generator.tap_strides.values()) == [64, 32, 16, 8]
    _, features = generator.sample([1], num_steps=1)
    assert [tuple(map_BCHW.shape[2:]) for map_BCHW in features.values()] == [(1, 2), (2, 4), (4, 8), (8, 16)]


def test_encoding_and_decoding_are_inverse_in_scale() -> None:
    vae = tiny_families.vae()
    plain = LatentCodec(vae, (3, 32, 32))
    vae.register_to_config(scaling_factor=0.25, shift_factor=0.75)
    shifted = LatentCodec(vae, (3, 32, 32))
    images_BCHW = torch.rand(2, 3, 32, 32)
    latents_BCHW = shifted.encode(images_BCHW)
    torch.testing.assert_close(latents_BCHW, (plain.encode(images_BCHW) / 0.5 - 0.75) * 0.25)
    torch.testing.assert_close(shifted.decode(latents_BCHW), plain.decode((latents_BCHW / 0.25 + 0.75) * 0.5))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"image_size": [3, 36, 64]}, "multiples of 8"),
        ({"image_size": [1, 32, 64]}, "reads 3 channels"),
        ({"prompts": []}, "at least one prompt"),
        ({"promt": "a cell"}, r"\['promt'\] are not known"),
        ({"guidance_scale": -1.0}, "guidance_scale must be"),
        ({"guidance_scale": "7"}, "guidance_scale: Input should be a valid number"),
        ({"prompts": "a cell"}, "prompts: Input should be a valid array"),
        ({"prompt": "a word " * 20}, "the text encoder reads 16"),
        ({"tap_names": ["up7.0"]}, "unknown taps"),
    ],
)
def test_a_card_that_does_not_fit_is_named(tmp_path: Path, facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LatentDiffusionGenerator.load(tiny_families.latent_diffusion(tmp_path, **facts))


def test_networks_that_are_told_more_than_prompts_are_refused(tmp_path: Path) -> None:
    directory = tiny_families.latent_diffusion(tmp_path)
    config = json.loads((directory / "unet" / "config.json").read_text())
    (directory / "unet" / "config.json").write_text(json.dumps({**config, "class_embed_type": "timestep"}))
    with pytest.raises(ValueError, match="class_embed_type is timestep"):
        LatentDiffusionGenerator.load(directory)


def test_a_schedule_that_counts_from_one_has_no_room_for_all_steps(tmp_path: Path) -> None:
    generator = LatentDiffusionGenerator.load(tiny_families.latent_diffusion(tmp_path))
    assert generator.tapped_timestep(999, 0) == 1
    with pytest.raises(ValueError, match="num_steps must be"):
        generator.tapped_timestep(1000)


def test_the_noise_schedule_of_another_sampler_is_read_as_ddim(tmp_path: Path) -> None:
    directory = tiny_families.latent_diffusion(tmp_path)
    before_BCHW, _ = LatentDiffusionGenerator.load(directory).sample(SEEDS, num_steps=STEPS)
    euler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
    )
    euler.save_pretrained(directory / "scheduler")
    index = json.loads((directory / "model_index.json").read_text())
    named = {"scheduler": ["diffusers", "EulerDiscreteScheduler"], "safety_checker": ["somewhere", "NeverOpened"]}
    (directory / "model_index.json").write_text(json.dumps({**index, **named}))
    generator = LatentDiffusionGenerator.load(directory)
    # Euler says nothing of clipping, and DDIM clips unless it is told not to: latents know no range.
    assert generator.scheduler.config.clip_sample is False
    # It says nothing of the last step either, where DDIM then goes all the way: near, not equal.
    torch.testing.assert_close(generator.sample(SEEDS, num_steps=STEPS)[0], before_BCHW, atol=0.05, rtol=0)
