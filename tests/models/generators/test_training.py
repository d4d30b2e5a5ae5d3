"""Training a generator: it learns, resumes to the bit, stops, watches, and says when it memorises."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.contracts import Stopped
from models.generators.card import trend
from models.generators.network import NetworkConfig
from models.generators.pool import split
from models.generators.symmetry import Symmetry
from models.generators.training import GeneratorTrainConfig, looks, train_generator
from models.generators.watch import WatchConfig

CONFIG = GeneratorTrainConfig(
    steps=12,
    batch_size=8,
    network=NetworkConfig((8, 16), 1, attention=False),
    symmetry=Symmetry(),
    holdout_share=0.2,
    report_every=3,
    watch=WatchConfig(every=6, samples=4, sampling_steps=2, shown=2),
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
    config = replace(CONFIG, steps=30, learning_rate=5e-3, ema_decay=0.8, watch=replace(CONFIG.watch, every=15))
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
    assert [step for step, _ in sheets] == [6, 15, 30]
    assert sheets[0][1].shape == (2, 3, 16, 16)
    assert result.curves["look_step"] == [6, 15, 30]
    assert all(len(result.curves[name]) == 3 for name in ("train_loss", "holdout_loss", "kernel_distance"))
    facts = result.generator.facts.training
    assert facts["looks"]["kernel_distance"] == [round(value, 5) for value in result.curves["kernel_distance"]]
    # Whoever watches sees a report now and then: the numbers of a look stay until the next one.
    assert all(metrics["look_step"] == 6 for done, _, metrics in reports if 6 <= done < 15)
    assert all("look_step" not in metrics for done, _, metrics in reports if done < 6)
    assert facts["train_images"] == 51
    assert facts["holdout_images"] == 13
    assert facts["quality"]["samples"] == 8
    assert facts["outlook"] == trend(facts["looks"]) != ""
    assert result.samples_BCHW.shape == (8, 3, 16, 16)


def test_the_curves_end_with_a_look_at_the_finished_weights() -> None:
    reports: list[Mapping[str, float]] = []
    config = replace(CONFIG, steps=9)
    result = train_generator(stripes(32), config, progress=lambda _done, _total, metrics: reports.append(metrics))
    assert result.curves["look_step"] == [3, 6, 9]
    assert reports[-1]["look_step"] == 9
    assert reports[-1]["loss"] == result.curves["loss"][-1]
    assert result.generator.facts.training["holdout_loss"] == result.curves["holdout_loss"][-1]


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
    assert whole.curves["look_step"] == resumed.curves["look_step"] == [3, 6, 12]
    assert whole.curves["kernel_distance"] == resumed.curves["kernel_distance"]


def test_held_out_images_are_never_trained_on() -> None:
    images_BCHW = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(40, 3, 8, 8)
    pool = split(images_BCHW, holdout_share=0.2, seed=0)
    train, holdout = (set(part[:, 0, 0, 0].tolist()) for part in (pool.train_BCHW, pool.holdout_BCHW))
    assert train | holdout == set(range(40))
    assert not train & holdout
    assert len(split(images_BCHW, holdout_share=0, seed=0).holdout_BCHW) == 0


def test_without_held_out_images_it_still_trains() -> None:
    result = train_generator(stripes(16), replace(CONFIG, steps=2, holdout_share=0.0))
    assert result.quality is None
    assert result.warnings == []


def test_learning_a_pool_by_heart_is_said() -> None:
    config = replace(CONFIG, steps=30, learning_rate=1e-2, ema_decay=0.5, quality_samples=2)
    numbers_BCHW = torch.arange(40, dtype=torch.uint8)[:, None, None, None]
    places = split(numbers_BCHW, holdout_share=config.holdout_share, seed=config.seed)
    images_BCHW = torch.randint(0, 256, (40, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    images_BCHW[places.train_BCHW.flatten().long()] = 128
    said: list[str] = []
    result = train_generator(images_BCHW, config, on_warning=said.append)
    assert "by heart" in result.warnings[0]
    assert "by heart" in said[0]
    assert len(said) == len(set(said))
    assert result.generator.facts.training["warnings"] == result.warnings


def test_a_card_has_a_dozen_looks_and_always_the_last() -> None:
    many = {"look_step": [float(i) for i in range(100)], "kernel_distance": [i / 3 for i in range(100)], "step": [1.0]}
    found = looks(many)
    assert set(found) == {"look_step", "kernel_distance"}
    assert len(found["look_step"]) <= 12
    assert (found["look_step"][-1], found["kernel_distance"][-1]) == (99.0, 33.0)


def test_unusable_pools_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 images"):
        train_generator(stripes(3), CONFIG)
    with pytest.raises(ValueError, match="uint8"):
        train_generator(stripes(16).float(), CONFIG)
    with pytest.raises(ValueError, match="not both"):
        GeneratorTrainConfig(steps=1, minutes=1)
