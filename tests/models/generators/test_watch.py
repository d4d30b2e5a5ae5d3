"""Looks at a generator while it trains: when, what they cost, and what they warn of."""

from collections.abc import Sequence
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from models.contracts import Features
from models.generators.network import NetworkConfig
from models.generators.pool import Pool
from models.generators.symmetry import Symmetry
from models.generators.unet_diffusion import UNetDiffusionGenerator
from models.generators.watch import Watch, WatchConfig, signs
from tests.models.generators.test_quality import lit_from_above

NETWORK = NetworkConfig((8, 16), 1, attention=False)
LOOK = WatchConfig(every=10, samples=4, sampling_steps=2, shown=2)


class Replay(UNetDiffusionGenerator):
    """Draws training images instead of learning them."""

    train_BCHW: Tensor

    def sample(
        self, seeds: Sequence[int], *, num_steps: int = 50, tap_timestep: int | None = None
    ) -> tuple[Tensor, Features]:
        """The images of these numbers."""
        del num_steps, tap_timestep
        return self.train_BCHW[list(seeds)].float() / 127.5 - 1, {}


def watch(generator: UNetDiffusionGenerator, warnings: list[str], holdout: int = 12) -> Watch:
    pool = Pool(lit_from_above(40, 1), lit_from_above(holdout, 2))
    return Watch(
        generator,
        pool,
        Symmetry(),
        LOOK,
        device=torch.device("cpu"),
        seed=0,
        batch_size=4,
        report_every=2,
        on_warning=warnings.append,
    )


def test_a_generator_that_replays_its_pool_is_caught_at_the_first_look() -> None:
    generator = Replay.build((3, 16, 16), NETWORK)
    generator.train_BCHW = lit_from_above(40, 1)
    warnings: list[str] = []
    watching = watch(generator, warnings)
    seen = watching.look(4)
    assert seen["copied_share"] == 1
    assert seen["nearest_ratio"] < 0.01
    watching.look(10)
    assert len(warnings) == 1
    assert "100% of the samples" in warnings[0]
    assert "step 4" in warnings[0]


def test_new_images_raise_no_warning() -> None:
    generator = Replay.build((3, 16, 16), NETWORK)
    generator.train_BCHW = lit_from_above(40, 3)
    warnings: list[str] = []
    seen = watch(generator, warnings).look(4)
    assert seen["copied_share"] == 0
    assert seen["nearest_ratio"] == pytest.approx(1, abs=0.2)
    assert abs(seen["kernel_distance"]) < 0.5
    assert not warnings


def test_looks_come_early_then_regularly_and_only_when_due() -> None:
    watching = watch(UNetDiffusionGenerator.build((3, 16, 16), NETWORK), [])
    found = [step for step in range(2, 41, 2) if watching.observe(step, nullcontext)]
    assert found == [4, 10, 20, 30, 40]


def test_a_look_does_not_slow_the_pace_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 500.0, 510.0])
    monkeypatch.setattr("models.generators.watch.time.monotonic", lambda: next(clock))
    paces: list[float | None] = []
    watching = watch(UNetDiffusionGenerator.build((3, 16, 16), NETWORK), [])
    watching._progress = lambda _done, _total, metrics: paces.append(metrics.get("images_per_second"))
    watching.report(0, 20, {})
    watching.report(5, 20, {})
    watching.look(5)
    watching.report(10, 20, {})
    watching.report(20, 20, {})
    assert paces == [None, 2.0, 2.0, 4.0]


def test_without_held_out_images_there_are_samples_only() -> None:
    assert watch(UNetDiffusionGenerator.build((3, 16, 16), NETWORK), [], holdout=0).look(4) == {"look_step": 4.0}


def test_near_duplicates_among_real_images_are_no_sign() -> None:
    assert not signs({"copied_share": 0.3, "copied_share_of_real": 0.25})
    assert set(signs({"copied_share": 0.3, "copied_share_of_real": 0.0})) == {"copies"}
    assert set(signs({"holdout_loss": 0.3, "train_loss": 0.2})) == {"loss"}
    assert not signs({"holdout_loss": 0.22, "train_loss": 0.2})


def test_a_look_of_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        WatchConfig(samples=1)
