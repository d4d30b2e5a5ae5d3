"""DiT: the same images as diffusers' own pipeline, blocks as maps, classes by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTPipeline

from models.generators.dit import DiTGenerator, default_blocks
from tests.models.generators import tiny_families

STEPS, SEEDS = 3, [3, 8]


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 everywhere: diffusers does not compute in mixed precision by itself."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


# The pipeline writes its "no class" as 1000, which a tiny table of classes does not have: compared without guidance.
def test_dit_draws_what_diffusers_draws(tmp_path: Path) -> None:
    generator = DiTGenerator.load(tiny_families.dit(tmp_path, guidance_scale=1.0))
    pipeline = DiTPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    random = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    images = pipeline([3, 3], guidance_scale=1.0, num_inference_steps=STEPS, generator=random, output_type="pt").images
    ours_BCHW, _ = generator.sample(SEEDS, num_steps=STEPS)
    torch.testing.assert_close(ours_BCHW, images * 2 - 1, atol=1e-4, rtol=0)
    assert ours_BCHW.std() > 0.01


def test_guidance_leaves_the_untold_answer(tmp_path: Path) -> None:
    guided = DiTGenerator.load(tiny_families.dit(tmp_path / "a", guidance_scale=3.0))
    latents_BCHW = guided._noise([5])
    told, untold = torch.tensor([3]), torch.tensor([10])
    with torch.no_grad():
        answers = [guided._ask(latents_BCHW, 500, condition) for condition in (told, untold)]
        both_BCHW = guided._predict(latents_BCHW, 500, torch.cat([untold, told]))
    torch.testing.assert_close(both_BCHW, answers[1] + 3.0 * (answers[0] - answers[1]))
    assert (answers[0] - answers[1]).abs().max() > 1e-3


def test_blocks_are_maps_in_the_images_order(tmp_path: Path) -> None:
    generator = DiTGenerator.load(tiny_families.dit(tmp_path))
    generator.select_taps(["block0"])
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    # Tokens that carry their place must come out at that place.
    tokens_BTC = torch.stack([rows.flatten(), columns.flatten()], dim=-1).float()[None].repeat(1, 1, 8)
    block = generator._denoiser.transformer_blocks[0]
    block.register_forward_hook(lambda *_: tokens_BTC, prepend=True)
    with generator._taps.recording() as recorded:
        generator._ask(generator._noise([0]), 10, torch.tensor([3]))
    assert torch.equal(recorded["block0"][0, 0], rows.float())
    assert torch.equal(recorded["block0"][0, 1], columns.float())


def test_classes_are_drawn_by_seed_and_real_images_are_told_one(tmp_path: Path) -> None:
    generator = DiTGenerator.load(tiny_families.dit(tmp_path, class_labels=[1, 2]))
    conditions_B = generator._drawn_conditions(range(12))
    assert conditions_B[:12].tolist() == [10] * 12
    assert set(conditions_B[12:].tolist()) == {1, 2}
    assert generator._drawn_conditions([5])[1] == conditions_B[12 + 5]
    assert generator._encoding_conditions(2).tolist() == [3, 3]
    untold = DiTGenerator.load(tiny_families.dit(tmp_path / "untold", class_label=None))
    assert untold._encoding_conditions(1).tolist() == [10]
    assert untold._drawn_conditions([1, 2]).tolist() == [10, 10]  # nothing to be guided to


def test_patches_of_any_size(tmp_path: Path) -> None:
    generator = DiTGenerator.load(tiny_families.dit(tmp_path, side=24, patch_size=3))
    assert set(generator.tap_strides.values()) == {12}
    assert all(map_BCHW.shape[2:] == (2, 2) for map_BCHW in generator.sample([1], num_steps=1)[1].values())


def test_the_middle_of_the_depth_is_read() -> None:
    assert default_blocks(28) == ["block7", "block14", "block21"]
    assert default_blocks(1) == ["block0"]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"image_size": [3, 32, 64]}, "this transformer makes 32x32"),
        ({"class_label": 11}, r"the classes are 0 to 9, got \[11"),
        ({"class_labels": []}, "at least one class"),
        ({"prompt": "a cat"}, "not known"),
    ],
)
def test_a_card_that_does_not_fit_is_named(tmp_path: Path, facts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DiTGenerator.load(tiny_families.dit(tmp_path, **facts))
