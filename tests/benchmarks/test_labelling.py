"""The benchmark of labels at a tiny size, on the example that ships."""

import pytest
import torch

from benchmarks import labelling
from benchmarks.ddpm_seg import PixelEnsemble, stored_features
from benchmarks.pack_images import read_few
from models.generators.unet_diffusion import UNetDiffusionGenerator
from models.labelling import label_synthesized


@pytest.fixture(scope="module")
def generator() -> UNetDiffusionGenerator:
    return UNetDiffusionGenerator.load(labelling.GENERATOR)


def test_ddpm_seg_labels_samples_and_is_fitted_on_all_pixels(generator: UNetDiffusionGenerator) -> None:
    few, classes = read_few(labelling.PACK)
    ensemble = PixelEnsemble(generator, classes)
    before = ensemble.networks[9][0].weight.detach().clone()
    ensemble.fit(few[:1], steps=2)
    assert not torch.equal(before, ensemble.networks[9][0].weight)
    batch = label_synthesized(ensemble, [1, 2], num_steps=1)
    assert batch.probabilities_BCHW.shape == (2, 7, 64, 64)
    assert batch.probabilities_BCHW.sum(axis=1) == pytest.approx(1, abs=1e-3)
    assert ensemble.features(torch.zeros(1, 3, 64, 64), [0]).shape == (1, 3 * (128 + 80 + 48), 64, 64)


def test_costs_are_compared(generator: UNetDiffusionGenerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labelling, "_pairs", lambda _: 1)
    ours = PixelEnsemble(generator, read_few(labelling.PACK)[1])
    assert labelling.labelled_against_plain(ours, generator, 1, 1).value > 1  # three passes more
    assert labelling.against_ddpm_seg(ours, ours, 1, 1, 3.0).met is False


def test_a_fits_peak_is_measured() -> None:
    stored = 4 * 64 * 64 * 768 * 4  # the features of every pixel, float32
    peak = labelling.peak_of_fit("ddpm_seg", labelling.PACK, labelling.GENERATOR, 4)
    assert 1.5 * stored < peak < 15 * stored
    assert stored_features(20) / 1e9 == pytest.approx(44.3, abs=0.1)
