"""The estimate without held-out images: honest about what it saw, and cheap."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.heads.estimate import estimate
from models.heads.fusion_training import FusionTrainConfig
from models.heads.kinds import HEAD_KINDS
from models.heads.self_training import SelfTrainConfig
from models.labelling import FittedHead
from tests.models.tiny import STUFF, disc_examples, tiny_generator

CPU = torch.device("cpu")
QUICK = SelfTrainConfig(architecture="segformer_nano", members=1, steps=200, batch_size=8)


def test_it_is_measured_on_what_was_not_fitted_with_fewer_steps() -> None:
    seen: list[tuple[int, int]] = []
    kind = HEAD_KINDS["student"]

    def watched(generator: Any, examples: Any, classes: Any, config: SelfTrainConfig, **options: Any) -> FittedHead:
        seen.append((len(examples), config.steps))
        return kind.fit(generator, examples, classes, config, **options)

    found = estimate(replace(kind, fit=watched), [], disc_examples(5), STUFF, QUICK, device=CPU)
    assert found is not None
    assert sorted(seen) == [(2, 36), (3, 36)]
    assert found["miou"] == pytest.approx(np.mean(found["folds"]))
    assert found["miou"] > 0.6
    assert 2 * found["steps_share"] <= 0.4


def test_it_says_what_filtering_would_be_worth_on_the_images_of_all_folds() -> None:
    config = replace(QUICK, members=2, steps=60)
    found = estimate(HEAD_KINDS["student"], [], disc_examples(5), STUFF, config, device=CPU)
    assert found is not None
    curve = found["filter_curve"]
    assert curve["num_images"] == 5
    assert len(curve["shares"]) == len(curve["images"]) == len(curve["pixels"])
    assert curve["images"][0] == curve["pixels"][0]
    json.dumps(found, allow_nan=False)


def test_heads_on_a_generator_are_estimated_too() -> None:
    config = FusionTrainConfig(members=1, width=16, steps=3, batch_size=2, tap_timestep=20)
    found = estimate(HEAD_KINDS["fusion"], [tiny_generator()], disc_examples(2), STUFF, config, device=CPU)
    assert found is not None
    assert 0 <= found["miou"] <= 1


def test_one_example_says_nothing() -> None:
    assert estimate(HEAD_KINDS["student"], [], disc_examples(1), STUFF, QUICK, device=CPU) is None


def test_its_progress_runs_once_from_start_to_end_and_shows_no_losses_of_other_fits() -> None:
    told: list[tuple[int, int, dict[str, float]]] = []
    config = FusionTrainConfig(members=1, width=16, steps=112, batch_size=2, tap_timestep=20)
    estimate(
        HEAD_KINDS["fusion"],
        [tiny_generator()],
        disc_examples(2),
        STUFF,
        config,
        device=CPU,
        progress=lambda done, total, metrics: told.append((done, total, dict(metrics))),
    )
    assert told == [(done, 40, {}) for done in (10, 20, 30, 40)]
