"""Training a generator: it learns, resumes to the bit, stops, watches, and says when it memorises."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.contracts import Stopped
from models.generators.network import NetworkConfig
from models.generators.symmetry import Symmetry
from models.generators.training import CURVE_POINTS, GeneratorTrainConfig, split, thinned, train_generator

CONFIG = GeneratorTrainConfig(
    steps=12,
    batch_size=8,
    network=NetworkConfig((8, 16), 1, attention=False),
    symmetry=Symmetry(),
    holdout_share=0.2,
    report_every=3,
    samples_every=6,
    sample_count=2,
    sample_steps=2,
    quality_samples=8,
)


def stripes(count: int) -> Tensor:
    """Vertical stripes of random phase and tone, uint8 BCHW."""
    random = torch.Generator().manual_seed(0)
    phase_B = torch.rand(count, generator=random)[:, None, None, None] * 6
    tone_BC = torch.rand(count, 3, generator=random)[:, :, None, None]
    columns_W = torch.arange(16)[None, None, None, :] / 2
    return ((torch.sin(columns_W + phase_B) * 0.5 + 0.5) * tone_BC * 255).expand(count, 3, 16, 16).to(torch.uint8)


def test_it_learns_and_reports() -> None:
    reports: list[tuple[int, int, Mapping[str, float]]] = []
    sheets: list[tuple[int, Tensor]] = []
    config = replace(CONFIG, steps=30, learning_rate=5e-3, ema_decay=0.8, samples_every=15)
    result = train_generator(
        stripes(64),
        config,
        progress=lambda done, total, metrics: reports.append((done, total, metrics)),
        on_samples=lambda step, images_BCHW: sheets.append((step, images_BCHW)),
    )
    assert [done for done, _, _ in reports] == list(range(3, 31, 3))
    assert all(total == 30 for _, total, _ in reports)
    assert reports[-1][2]["loss"] < 0.8 * reports[0][2]["loss"]
    assert reports[-1][2]["images_per_second"] > 0
    assert [step for step, _ in sheets] == [15, 30]
    assert sheets[0][1].shape == (2, 3, 16, 16)
    assert len(result.curves["holdout_loss"]) == 2
    facts = result.generator.facts.training
    assert facts["train_images"] == 51
    assert facts["holdout_images"] == 13
    assert facts["quality"]["samples"] == 8
    assert result.samples_BCHW.shape == (8, 3, 16, 16)


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = train_generator(stripes(32), CONFIG)
    asked = iter([False] * 7)
    checkpoint = tmp_path / "run.safetensors"
    with pytest.raises(Stopped):
        train_generator(stripes(32), CONFIG, stop=lambda: next(asked, True), checkpoint_path=checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]
    resumed = train_generator(stripes(32), CONFIG, checkpoint_path=checkpoint)
    weights, others = whole.generator.unet.state_dict(), resumed.generator.unet.state_dict()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert torch.equal(whole.samples_BCHW, resumed.samples_BCHW)


def test_held_out_images_are_never_trained_on() -> None:
    images_BCHW = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 3, 8, 8)
    pool = split(images_BCHW, CONFIG)
    train, holdout = (set(part[:, 0, 0, 0].tolist()) for part in (pool.train_BCHW, pool.holdout_BCHW))
    assert train | holdout == set(range(40))
    assert not train & holdout
    assert len(split(images_BCHW, replace(CONFIG, holdout_share=0.0)).holdout_BCHW) == 0


def test_without_held_out_images_it_still_trains() -> None:
    result = train_generator(stripes(16), replace(CONFIG, steps=2, holdout_share=0.0))
    assert result.quality is None
    assert result.warnings == []


def test_learning_a_pool_by_heart_is_said() -> None:
    config = replace(CONFIG, steps=30, learning_rate=1e-2, ema_decay=0.5, quality_samples=2, samples_every=1000)
    places = split(torch.arange(40, dtype=torch.uint8)[:, None, None, None], config)
    images_BCHW = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images_BCHW[places.train_BCHW.flatten().long()] = 128
    result = train_generator(images_BCHW, config)
    assert "by heart" in result.warnings[0]
    assert result.generator.facts.training["warnings"] == result.warnings


def test_long_curves_are_thinned_alike_and_keep_their_end() -> None:
    curves = thinned({"step": [float(i) for i in range(1001)], "loss": [-float(i) for i in range(1001)], "few": [1.0]})
    assert len(curves["step"]) <= CURVE_POINTS
    assert curves["step"][-1] == 1000
    assert curves["loss"] == [-value for value in curves["step"]]
    assert curves["few"] == [1.0]


def test_unusable_pools_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 images"):
        train_generator(stripes(3), CONFIG)
    with pytest.raises(ValueError, match="uint8"):
        train_generator(stripes(16).float(), CONFIG)
    with pytest.raises(ValueError, match="not both"):
        GeneratorTrainConfig(steps=1, minutes=1)
