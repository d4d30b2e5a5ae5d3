"""Fitting a head on a few examples."""

from pathlib import Path

import pytest
import torch

from models.contracts import Stopped
from models.heads.cross_validation import Candidate, choose, folds
from models.heads.fusion_labeller import FusionLabeller
from models.heads.fusion_training import FusionTrainConfig, fit_fusion, views_per_step
from models.heads.tap_blocks import UnknownTapBlocks
from models.labelling import FittedHead, LabellerPredictor
from models.metrics.evaluation import evaluate
from tests.models.tiny import STUFF, disc_examples, rare_examples, tiny_generator

CPU = torch.device("cpu")


def test_a_head_learns_discs_even_from_an_untrained_generator() -> None:
    generator = tiny_generator()
    config = FusionTrainConfig(members=2, width=16, steps=40, tap_timestep=20)
    fitted = fit_fusion(generator, disc_examples(4), STUFF, config, device=CPU)
    result = evaluate(LabellerPredictor(fitted.labeller), disc_examples(4, seed=9), STUFF)
    assert result.miou is not None
    assert result.miou > 0.7
    assert fitted.card["tap_timesteps"] == [20]
    assert fitted.card["cross_validation"] == []


def test_it_reads_the_blocks_it_is_told_to_and_learns_from_them(tmp_path: Path) -> None:
    generator = tiny_generator()
    wanted = list(generator.tap_channels)[-1]
    config = FusionTrainConfig(members=2, width=16, steps=40, tap_timestep=20, tap_blocks=(wanted,))
    fitted = fit_fusion(generator, disc_examples(4), STUFF, config, device=CPU)
    assert fitted.card["tap_blocks"] == [wanted]
    fitted.labeller.save(tmp_path)
    again = FusionLabeller.load(tmp_path, generator)
    assert list(again.head.config.tap_channels) == list(again.head.config.tap_strides) == [wanted]
    result = evaluate(LabellerPredictor(again), disc_examples(4, seed=9), STUFF)
    assert result.miou is not None
    assert result.miou > 0.7


def test_blocks_that_the_generator_does_not_have_are_named_with_those_it_has() -> None:
    config = FusionTrainConfig(steps=1, tap_blocks=("up1.0", "nope"))
    with pytest.raises(UnknownTapBlocks, match=r"no taps nope; there are up0\.2, up1\.0"):
        fit_fusion(tiny_generator(), disc_examples(2), STUFF, config, device=CPU)


def test_a_rare_class_of_a_few_pixels_does_not_vanish() -> None:
    config = FusionTrainConfig(members=2, width=16, steps=60, batch_size=8, tap_timestep=0)
    fitted = fit_fusion(tiny_generator(), rare_examples(4), STUFF, config, device=CPU)
    result = evaluate(LabellerPredictor(fitted.labeller), rare_examples(4), STUFF)
    assert (result.per_class_iou["disc"] or 0.0) > 0.3


def test_cross_validation_tries_every_timestep() -> None:
    config = FusionTrainConfig(members=2, width=16, steps=1, validation_steps=1, timesteps=(10, 90), validate_from=4)
    seen: list[tuple[int, int]] = []
    fitted = fit_fusion(
        tiny_generator(),
        disc_examples(4),
        STUFF,
        config,
        device=CPU,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert [row["tap_timesteps"] for row in fitted.card["cross_validation"]] == [[10, 90], [10], [90]]
    assert all(done <= total for done, total in seen)


def test_every_example_is_held_out_once() -> None:
    examples = disc_examples(5)
    parts = folds(examples, 2)
    assert sum(len(held_out) for _, held_out in parts) == 5
    assert all(len(fitted) + len(held_out) == 5 for fitted, held_out in parts)
    assert folds(examples[:1], 2) == []


def test_the_best_candidate_wins() -> None:
    scores = {10: 0.3, 50: 0.6, 90: 0.5}
    candidates = [Candidate((step,)) for step in scores]
    best, table = choose(
        candidates, folds(disc_examples(2), 2), lambda candidate, *_: scores[candidate.tap_timesteps[0]], None
    )
    assert best.tap_timesteps == (50,)
    assert len(table) == 3


def test_it_stops() -> None:
    with pytest.raises(Stopped):
        fit_fusion(tiny_generator(), disc_examples(2), STUFF, FusionTrainConfig(steps=1), device=CPU, stop=lambda: True)


def weights(fitted: FittedHead) -> dict[str, torch.Tensor]:
    assert isinstance(fitted.labeller, FusionLabeller)
    return fitted.labeller.head.state_dict()


def test_a_stopped_fit_goes_on_to_the_same_head(tmp_path: Path) -> None:
    config = FusionTrainConfig(members=2, width=16, steps=6, tap_timestep=20)
    examples, path = disc_examples(2), tmp_path / "head.safetensors"
    whole = fit_fusion(tiny_generator(), examples, STUFF, config, device=CPU)
    asked = iter([False, False, False, True])
    with pytest.raises(Stopped):
        fit_fusion(
            tiny_generator(), examples, STUFF, config, device=CPU, stop=lambda: next(asked), checkpoint_path=path
        )
    resumed = fit_fusion(tiny_generator(), examples, STUFF, config, device=CPU, checkpoint_path=path)
    assert resumed.card["steps"] == 6
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value)


def test_a_view_of_every_timestep_is_in_a_batch() -> None:
    seen: list[int] = []
    generator = tiny_generator()
    encode = generator.encode
    generator.encode = lambda *args, **kwargs: (seen.append(kwargs["tap_timestep"]), encode(*args, **kwargs))[1]  # type: ignore[assignment, method-assign]
    config = FusionTrainConfig(members=1, width=16, steps=1, timesteps=(10, 90))
    fit_fusion(generator, disc_examples(2), STUFF, config, device=CPU)
    assert sorted(seen[:2]) == [10, 90]


@pytest.mark.parametrize(("size", "views"), [((64, 64), 16), ((128, 256), 16), ((256, 256), 8), ((1024, 1024), 4)])
def test_large_images_come_fewer_at_a_time(size: tuple[int, int], views: int) -> None:
    assert views_per_step(*size) == views
