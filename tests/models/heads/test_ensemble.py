"""Labellers on a generator and an encoder that label together."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.augmentation import AugmentConfig
from models.contracts import NotOffered, Stopped
from models.examples import to_uint8_images
from models.generators.stylegan2 import StyleGAN2Generator
from models.heads.ensemble import Ensemble, fit_labeller, load_labeller
from models.heads.fusion_training import FusionTrainConfig
from models.heads.kinds import HEAD_KINDS
from models.labelling import FittedHead, label_encoded, label_synthesized
from tests.models.generators import tiny_families
from tests.models.tiny import STUFF, disc_examples, tiny_encoder, tiny_generator

CPU = torch.device("cpu")
FUSION = HEAD_KINDS["fusion"]
ACROSS = AugmentConfig(horizontal_flip=True, vertical_flip=False)
CONFIG = FusionTrainConfig(members=2, width=8, steps=4, batch_size=2, tap_timestep=0, augment=ACROSS)


def images(count: int) -> np.ndarray:
    return np.stack([example.image_HWC for example in disc_examples(count, seed=3)])


@pytest.fixture(scope="module")
def fitted() -> FittedHead:
    return fit_labeller(FUSION, [tiny_generator(), tiny_encoder()], disc_examples(3), STUFF, CONFIG, device=CPU)


def test_both_weigh_the_same_in_the_mean(fitted: FittedHead) -> None:
    ensemble = fitted.labeller
    assert isinstance(ensemble, Ensemble)
    with torch.inference_mode():
        parts = [labeller.members(images(2), seeds=[0, 1]) for labeller in ensemble.labellers]
        members_KBCHW = ensemble.members(images(2), seeds=[0, 1])
    assert len(parts[0]) != len(parts[1])  # the generator is looked at with more noises
    expected_BCHW = (parts[0].mean(0) + parts[1].mean(0)) / 2
    torch.testing.assert_close(members_KBCHW.mean(0), expected_BCHW)


def test_what_the_generator_draws_both_label(fitted: FittedHead) -> None:
    batch = label_synthesized(fitted.labeller, [1, 2], num_steps=2)
    assert isinstance(fitted.labeller, Ensemble)
    generator, encoder = fitted.labeller.labellers
    alone = label_synthesized(generator, [1, 2], num_steps=2)
    assert np.array_equal(batch.images_BHWC, alone.images_BHWC)
    beside = label_encoded(encoder, batch.images_BHWC, seeds=[1, 2])
    expected = (alone.probabilities_BCHW + beside.probabilities_BCHW) / 2
    np.testing.assert_allclose(batch.probabilities_BCHW, expected, atol=1e-5)


def test_saved_and_loaded_it_answers_alike(fitted: FittedHead, tmp_path: Path) -> None:
    fitted.labeller.save(tmp_path)
    loaded = load_labeller(tmp_path, [tiny_generator(), tiny_encoder()])
    assert loaded.title == "Head on the generator + Head on the encoder"
    ours, theirs = (label_encoded(one, images(2), seeds=[0, 1]) for one in (fitted.labeller, loaded))
    np.testing.assert_allclose(ours.probabilities_BCHW, theirs.probabilities_BCHW, atol=1e-5)


def test_the_card_counts_all_and_keeps_the_others(fitted: FittedHead) -> None:
    card = fitted.card
    assert (card["kind"], card["steps"], card["members"]) == ("ensemble", 8, 2)
    assert [part["kind"] for part in card["beside"]] == ["fusion"]


def test_one_source_makes_no_ensemble() -> None:
    assert fit_labeller(FUSION, [tiny_encoder()], disc_examples(2), STUFF, CONFIG, device=CPU).card["kind"] == "fusion"


def test_a_gan_draws_what_the_encoder_labels(tmp_path: Path) -> None:
    gan = StyleGAN2Generator.load(tiny_families.stylegan2(tmp_path / "gan"))
    examples = disc_examples(2)
    fitted = fit_labeller(FUSION, [gan, tiny_encoder()], examples, STUFF, CONFIG, device=CPU)
    assert fitted.card["kind"] == "fusion"
    (tmp_path / "head").mkdir()
    fitted.labeller.save(tmp_path / "head")
    loaded = load_labeller(tmp_path / "head", [gan, tiny_encoder()])
    batch = label_synthesized(loaded, [1, 2])
    assert np.array_equal(batch.images_BHWC, to_uint8_images(gan.sample([1, 2])[0]))
    beside = label_encoded(fitted.labeller, batch.images_BHWC, seeds=[1, 2])
    np.testing.assert_allclose(batch.probabilities_BCHW, beside.probabilities_BCHW, atol=1e-5)


def test_a_gan_alone_labels_nothing(tmp_path: Path) -> None:
    gan = StyleGAN2Generator.load(tiny_families.stylegan2(tmp_path / "gan"))
    with pytest.raises(NotOffered, match="let an encoder label beside it"):
        fit_labeller(FUSION, [gan], disc_examples(2), STUFF, CONFIG, device=CPU)


def test_a_stopped_fit_goes_on_to_the_same_labeller(tmp_path: Path) -> None:
    sources, examples, path = [tiny_generator(), tiny_encoder()], disc_examples(2), tmp_path / "head.safetensors"
    config, told = replace(CONFIG, steps=10), list[tuple[int, int]]()

    def fit(**options: object) -> FittedHead:
        return fit_labeller(FUSION, sources, examples, STUFF, config, device=CPU, **options)  # type: ignore[arg-type]

    whole = fit(progress=lambda done, total, _: told.append((done, total)))
    assert told == [(10, 20), (20, 20)]
    asked = iter([False] * 13 + [True])  # in the middle of the second source
    with pytest.raises(Stopped):
        fit(stop=lambda: next(asked), checkpoint_path=path)
    assert [file.name for file in tmp_path.iterdir()] == ["head.1.safetensors"]
    resumed = fit(checkpoint_path=path)
    ours, theirs = (label_encoded(one.labeller, images(1), seeds=[0]) for one in (whole, resumed))
    np.testing.assert_allclose(ours.probabilities_BCHW, theirs.probabilities_BCHW, atol=1e-5)
