"""Fitting the pixel classifiers, and what they answer as a labeller."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.augmentation import AugmentConfig, resolve
from models.contracts import NotOffered, Stopped
from models.examples import Example
from models.heads.pixel_mlp import PixelMLPConfig
from models.heads.pixel_mlp_labeller import PixelMLPLabeller
from models.heads.pixel_mlp_training import PixelBatches, PixelMLPTrainConfig, fit_pixel_mlps
from models.labelling import FittedHead, LabellerPredictor, label_synthesized
from models.metrics.evaluation import evaluate
from models.students.batches import ExampleBatches
from tests.models.tiny import STUFF, disc_examples, tiny_encoder, tiny_generator

CPU = torch.device("cpu")
CONFIG = PixelMLPTrainConfig(members=2, steps=6, timesteps=(10, 50), batch_size=2, pixels=16)


def weights(fitted: FittedHead) -> dict[str, torch.Tensor]:
    assert isinstance(fitted.labeller, PixelMLPLabeller)
    return fitted.labeller.networks.state_dict()


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
    examples = []
    for seed in range(4):
        draw = np.random.default_rng(seed)
        label = np.zeros((32, 32), np.uint8)
        y, x = draw.integers(2, 26, 2)
        label[y : y + 4, x : x + 3] = 1
        image = np.where(label[..., None] == 1, 220, 60) + draw.normal(0, 8, (32, 32, 3))
        examples.append(Example(image.clip(0, 255).astype(np.uint8), label))
    config = PixelMLPTrainConfig(members=2, steps=80, timesteps=(0,), pixels=64)
    fitted = fit_pixel_mlps(tiny_generator(), examples, STUFF, config, device=CPU)
    result = evaluate(LabellerPredictor(fitted.labeller), examples, STUFF)
    assert (result.per_class_iou["disc"] or 0.0) > 0.15


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


def test_members_see_pixels_of_their_own_with_the_labels_they_have_there() -> None:
    generator, examples = tiny_generator(), disc_examples(3)
    plain = resolve(AugmentConfig(), examples, num_classes=2)
    config = PixelMLPConfig(generator.tap_channels, tuple(STUFF), members=2, tap_timesteps=(20,))
    batches = PixelBatches(generator, ExampleBatches(examples, STUFF, plain, 3, CPU), config, 8, CPU)
    views = batches(torch.Generator().manual_seed(0))
    assert views.place_BKP2.shape == (3, 2, 8, 2)
    assert views.target_KRC.shape == (2, 3 * 8, 2)
    assert not torch.equal(views.place_BKP2[:, 0], views.place_BKP2[:, 1])
    image_BCHW, target_BCHW = batches.examples(torch.Generator().manual_seed(0))
    del image_BCHW
    looked_up = torch.nn.functional.grid_sample(target_BCHW, views.place_BKP2, mode="nearest", align_corners=False)
    expected_KRC = looked_up.permute(2, 0, 3, 1).flatten(1, 2)
    assert torch.allclose(views.target_KRC, expected_KRC)


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
