"""Fitting the pixel classifiers, and what they answer as a labeller."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from models.contracts import NotOffered, Stopped
from models.examples import Example
from models.heads import pixel_mlp_training
from models.heads.pixel_mlp_labeller import PixelMLPLabeller
from models.heads.pixel_mlp_training import PixelBank, PixelBatches, PixelMLPTrainConfig, encode_bank, fit_pixel_mlps
from models.labelling import FittedHead, LabellerPredictor, label_synthesized
from models.metrics.evaluation import evaluate
from tests.models.tiny import STUFF, disc_examples, rare_examples, tiny_encoder, tiny_generator

CPU = torch.device("cpu")
CONFIG = PixelMLPTrainConfig(members=2, steps=6, timesteps=(10, 50), copies=2, batch_size=2, pixels=16)


def weights(fitted: FittedHead) -> dict[str, torch.Tensor]:
    assert isinstance(fitted.labeller, PixelMLPLabeller)
    return fitted.labeller.networks.state_dict()


def test_they_read_the_blocks_they_are_told_to(tmp_path: Path) -> None:
    generator = tiny_generator()
    wanted = next(iter(generator.tap_channels))
    fitted = fit_pixel_mlps(generator, disc_examples(3), STUFF, replace(CONFIG, tap_blocks=(wanted,)), device=CPU)
    assert fitted.card["tap_blocks"] == [wanted]
    fitted.labeller.save(tmp_path)
    networks = PixelMLPLabeller.load(tmp_path, generator).networks
    assert networks.config.num_features == 2 * generator.tap_channels[wanted]
    evaluate(LabellerPredictor(PixelMLPLabeller(generator, networks)), disc_examples(2), STUFF)


def test_they_learn_discs_even_from_an_untrained_generator() -> None:
    config = PixelMLPTrainConfig(members=2, steps=60, timesteps=(0, 20), pixels=64)
    fitted = fit_pixel_mlps(tiny_generator(), disc_examples(4), STUFF, config, device=CPU)
    result = evaluate(LabellerPredictor(fitted.labeller), disc_examples(4, seed=9), STUFF)
    assert result.miou is not None
    assert result.miou > 0.7
    assert fitted.card["kind"] == "pixel_mlp"
    assert fitted.card["tap_timesteps"] == [0, 20]
    assert fitted.card["steps"] == 60


def test_a_rare_class_of_a_few_pixels_is_found() -> None:
    """One pixel in a hundred: a classifier that answers the common class everywhere would be right on 99 % of them."""
    examples = rare_examples(4)
    config = PixelMLPTrainConfig(members=2, steps=300, timesteps=(0,), pixels=64)
    fitted = fit_pixel_mlps(tiny_generator(), examples, STUFF, config, device=CPU)
    result = evaluate(LabellerPredictor(fitted.labeller), examples, STUFF)
    assert (result.per_class_iou["disc"] or 0.0) > 0.3


def test_a_stopped_fit_goes_on_to_the_same_networks(tmp_path: Path) -> None:
    examples, path = disc_examples(2), tmp_path / "head.safetensors"
    whole = fit_pixel_mlps(tiny_generator(), examples, STUFF, CONFIG, device=CPU)
    asked = iter([False, False, False, True])
    with pytest.raises(Stopped):
        fit_pixel_mlps(
            tiny_generator(), examples, STUFF, CONFIG, device=CPU, stop=lambda: next(asked), checkpoint_path=path
        )
    resumed = fit_pixel_mlps(tiny_generator(), examples, STUFF, CONFIG, device=CPU, checkpoint_path=path)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value)


def bank_of(examples: list[Example], **changes: Any) -> PixelBank:
    config = replace(CONFIG, **changes)
    return encode_bank(tiny_generator(), examples, STUFF, (10, 50), config, device=CPU)


def test_members_see_pixels_of_their_own_with_the_labels_they_have_there() -> None:
    bank = bank_of(disc_examples(3), copies=1)
    views = PixelBatches(bank, replace(CONFIG, batch_size=8))(torch.Generator().manual_seed(0))
    assert views.place_BKP2.shape == (3, 2, 16, 2)
    assert views.target_KRC.shape == (2, 3 * 16, 2)
    assert not torch.equal(views.place_BKP2[:, 0], views.place_BKP2[:, 1])
    copy_B = torch.randperm(3, generator=torch.Generator().manual_seed(0))
    looked_up_BCKP = functional.grid_sample(
        bank.target_BCHW[copy_B], views.place_BKP2, mode="nearest", align_corners=False
    )
    assert torch.allclose(views.target_KRC, looked_up_BCKP.permute(2, 0, 3, 1).flatten(1, 2))
    name = next(iter(bank.features))
    assert torch.equal(views.features[name], bank.features[name][copy_B])


def one_sided(count: int) -> list[Example]:
    """A bright left half: left and right differ, above and below do not."""
    label = np.zeros((32, 32), np.uint8)
    label[:, :16] = 1
    return [Example(np.where(label[..., None] == 1, np.uint8(200), np.uint8(60)).repeat(3, 2), label)] * count


def test_copies_are_mirrored_only_where_that_means_the_same() -> None:
    bank = bank_of(one_sided(2), copies=4)
    assert len(bank.target_BCHW) == 8
    assert (bank.target_BCHW[:, 1, :, :16] == 1).all()
    both = bank_of(disc_examples(6), copies=4).target_BCHW.unflatten(0, (4, 6))
    assert any(not torch.equal(both[0], both[copy]) for copy in (1, 2, 3))


def test_every_copy_has_its_own_noise() -> None:
    first_BCHW, second_BCHW = next(iter(bank_of(one_sided(2), copies=4).features.values())).split(4)
    assert not torch.allclose(first_BCHW[:2], second_BCHW[:2])


def test_what_does_not_fit_into_memory_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    one = bank_of(disc_examples(3), copies=1)
    num_bytes = sum(map_BCHW.numel() * 4 for map_BCHW in one.features.values())
    monkeypatch.setattr(pixel_mlp_training, "MAX_BANK_BYTES", 2 * num_bytes)
    assert len(bank_of(disc_examples(3), copies=8).target_BCHW) == 6
    monkeypatch.setattr(pixel_mlp_training, "MAX_BANK_BYTES", 1)
    assert len(bank_of(disc_examples(3), copies=8).target_BCHW) == 3


def test_sampled_images_are_noised_again_and_read_like_real_ones() -> None:
    generator = tiny_generator()
    labeller = fit_pixel_mlps(generator, disc_examples(2), STUFF, CONFIG, device=CPU).labeller
    batch = label_synthesized(labeller, [5, 6], num_steps=3)
    with torch.inference_mode():
        again = labeller.members(batch.images_BHWC, seeds=[5, 6])
    assert again.shape == (2, 2, 2, 32, 32)
    assert np.allclose(batch.probabilities_BCHW, again.mean(0).numpy(), atol=1e-6)
    assert (batch.uncertainty_BHW >= 0).all()


def test_an_encoder_without_noise_is_read_once_and_draws_nothing() -> None:
    fitted = fit_pixel_mlps(tiny_encoder(), disc_examples(2), STUFF, CONFIG, device=CPU)
    assert fitted.card["tap_timesteps"] == [0]
    assert fitted.labeller.title == "Pixel classifiers on the encoder"
    with pytest.raises(NotOffered, match="pool encoded"):
        label_synthesized(fitted.labeller, [1])
