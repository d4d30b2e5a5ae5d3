"""The head: shapes, members, and the way to disk and back."""

from pathlib import Path

import torch

from models.heads.fusion import FusionConfig, FusionHead
from tests.models.tiny import THINGS, tiny_generator


def test_saved_heads_answer_alike_and_members_differ(tmp_path: Path) -> None:
    generator = tiny_generator()
    config = FusionConfig(
        generator.tap_channels, generator.tap_strides, tuple(THINGS), width=16, members=3, tap_timesteps=(20,)
    )
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    features = generator.encode(image, tap_timestep=20, seeds=[1, 2])
    head = FusionHead(config)
    head.calibrate(features)
    head.save(tmp_path)
    loaded = FusionHead.load(tmp_path)
    with torch.inference_mode():
        logits = head.eval()(features, image)
        assert torch.allclose(loaded(features, image), logits, atol=1e-5)
    assert logits.shape == (3, 2, 3, 32, 32)
    assert not torch.allclose(logits[0], logits[1])
    assert loaded.config == config
