"""EfficientNet-Lite0's ImageNet weights as a student's backbone: the same answers, usable as other weights are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from skimage import data
from torch import Tensor, nn
from transformers import AutoModelForSemanticSegmentation

from models.encoders.efficientnet_checkpoint import read_checkpoint, shipped_checkpoint
from models.encoders.efficientnet_lite import EfficientNetLite
from models.students.build import build_student, stage_channels, student_stages
from models.students.card import save_student
from models.students.efficientnet_backbone import LAST_SCALE, MIDDLE, as_backbone, save_backbone
from models.students.onnx_export import export_onnx
from tests.models.tiny import STUFF

SIZE = (192, 192)
"""Of which every pool of the decoder divides the coarsest map, so that the export takes the quick way."""


@pytest.fixture(scope="module")
def lite() -> EfficientNetLite:
    return read_checkpoint(shipped_checkpoint())


@pytest.fixture(scope="module")
def photograph_BCHW() -> Tensor:
    return torch.from_numpy(data.coffee()[:128, 100:292]).permute(2, 0, 1)[None].float() / 127.5 - 1


@torch.inference_mode()
def test_every_stage_is_what_lite0_answers(lite: EfficientNetLite, photograph_BCHW: Tensor) -> None:
    stages = as_backbone(lite)(photograph_BCHW).feature_maps
    padded_before = read_checkpoint(shipped_checkpoint())
    for pad in [module for module in padded_before.modules() if isinstance(module, nn.ZeroPad2d)]:
        pad.padding = (max(pad.padding),) * 4
    maps = padded_before(photograph_BCHW, ["block0", "block2", "block4", "block10", "block15"])
    for stage_BCHW, name in zip(stages[:-1], ("block0", "block2", "block4", "block10"), strict=True):
        following = padded_before.blocks[int(name.removeprefix("block")) + 1]
        torch.testing.assert_close(stage_BCHW, following.expand(maps[name]), atol=5e-4, rtol=0)
    norm = padded_before.blocks[15].project.norm
    standardised = (maps["block15"] - norm.bias[:, None, None]) / norm.weight.abs()[:, None, None]
    inside = standardised.abs() < MIDDLE / LAST_SCALE
    assert inside.float().mean() > 0.999
    torch.testing.assert_close((stages[-1] - MIDDLE)[inside] / LAST_SCALE, standardised[inside], atol=5e-4, rtol=0)


def test_in_training_the_statistics_are_about_those_it_was_trained_with(
    lite: EfficientNetLite, photograph_BCHW: Tensor
) -> None:
    backbone = as_backbone(lite)
    with torch.no_grad():
        fixed = backbone(photograph_BCHW).feature_maps[3]
        moving = backbone.train()(photograph_BCHW).feature_maps[3]
    assert float(torch.corrcoef(torch.stack([fixed.flatten(), moving.flatten()]))[0, 1]) > 0.5


def test_a_student_starts_from_the_directory_and_is_loaded_without_this_project(
    lite: EfficientNetLite, tmp_path: Path
) -> None:
    save_backbone(lite, tmp_path / "lite0")
    assert {path.suffix for path in (tmp_path / "lite0").iterdir()} == {".json", ".safetensors"}
    student = build_student("upernet_efficientnet_lite0", STUFF, SIZE, weights=tmp_path / "lite0").eval()
    stages = student_stages(student, torch.zeros(1, 3, *SIZE))
    assert [stage_BCHW.shape[1] for stage_BCHW in stages] == stage_channels(student)
    save_student(student, tmp_path / "student", {"title": "Discs"})
    images_BHWC = np.random.default_rng(0).integers(0, 255, (2, *SIZE, 3), np.uint8)
    parity = export_onnx(student, tmp_path / "student" / "model.onnx", images_BHWC)
    assert parity["agreement"] > 0.999
    again = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "student", local_files_only=True)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in student.state_dict().items())
