"""Labels for sampled and for real images."""

import numpy as np
import torch

from models.heads.fusion_training import FusionTrainConfig, fit_fusion
from models.labelling import LabelledBatch, label_encoded, label_synthesized
from tests.models.tiny import THINGS, disc_examples, tiny_generator

CONFIG = FusionTrainConfig(members=2, width=16, steps=2, tap_timestep=50)


def check(batch: LabelledBatch, count: int) -> None:
    assert batch.images_BHWC.shape == (count, 32, 32, 3)
    assert batch.images_BHWC.dtype == np.uint8
    assert batch.probabilities_BCHW.shape == (count, 3, 32, 32)
    assert np.allclose(batch.probabilities_BCHW.sum(1), 1, atol=1e-4)
    assert batch.labels_BHW.max() < 2
    assert batch.instances_BHW is not None
    assert batch.instances_BHW.dtype == np.uint16
    assert batch.uncertainty_B.shape == (count,)
    assert (batch.uncertainty_BHW >= 0).all()


def test_both_pools_are_labelled_and_repeat_with_their_seeds() -> None:
    generator, examples = tiny_generator(), disc_examples(3)
    labeller = fit_fusion(generator, examples, THINGS, CONFIG, device=torch.device("cpu")).labeller
    sampled = label_synthesized(labeller, [5, 6], num_steps=3)
    check(sampled, 2)
    alone = label_synthesized(labeller, [6], num_steps=3)
    assert np.abs(alone.images_BHWC[0].astype(int) - sampled.images_BHWC[1]).max() <= 2
    images = np.stack([example.image_HWC for example in examples])
    encoded = label_encoded(labeller, images, seeds=[1, 2, 3])
    check(encoded, 3)
    again = label_encoded(labeller, images, seeds=[1, 2, 3])
    assert np.array_equal(encoded.probabilities_BCHW, again.probabilities_BCHW)
