"""Students that start from a directory of weights: every family, and every directory that does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    ConvNextForImageClassification,
    ResNetForImageClassification,
    SegformerForImageClassification,
    SwinForImageClassification,
    TextNetForImageClassification,
)

from models.generators.directory import UnsafeDirectory
from models.registry import STUDENTS
from models.students.build import build_student, student_stages
from models.students.card import save_student
from models.students.weights import UnfitWeights
from tests.models.tiny import STUFF

CLASSIFIERS: dict[str, Any] = {
    "segformer_nano": SegformerForImageClassification,
    "upernet_convnext": ConvNextForImageClassification,
    "upernet_resnet": ResNetForImageClassification,
    "upernet_swin_tiny": SwinForImageClassification,
    "upernet_textnet": TextNetForImageClassification,
}
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZE = (64, 64)


def classifier_folder(folder: Path, architecture: str, *, stride: int = 4) -> Path:
    """A published classifier as people download it: its own class, its own units."""
    config = STUDENTS[architecture].configure({0: "cat", 1: "dog"}, stride)
    torch.manual_seed(1)
    network = CLASSIFIERS[architecture](getattr(config, "backbone_config", config)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": MEAN, "image_std": STD}))
    return folder


def inner(map_BCHW: torch.Tensor) -> torch.Tensor:
    """Without the border, where padding stands for another colour."""
    return map_BCHW[..., 3:-3, 3:-3]


@pytest.mark.parametrize("architecture", sorted(CLASSIFIERS))
def test_the_first_stage_sees_what_the_classifier_saw(tmp_path: Path, architecture: str) -> None:
    folder = classifier_folder(tmp_path / "net", architecture)
    network = CLASSIFIERS[architecture].from_pretrained(folder).eval()
    student = build_student(architecture, STUFF, SIZE, weights=folder).eval()
    # The Swin classifier, unlike the backbone, takes no map that is smaller than a window.
    image_BCHW = torch.rand(1, 3, *((224, 224) if "swin" in architecture else SIZE))
    mean_C, std_C = torch.tensor(MEAN)[:, None, None], torch.tensor(STD)[:, None, None]
    ours: list[torch.Tensor] = []
    theirs: list[torch.Tensor] = []
    for module, seen in ((student, ours), (network, theirs)):
        layers = list(module.modules())
        first = next(index for index, layer in enumerate(layers) if isinstance(layer, nn.Conv2d))
        at = layers[first + 1] if layers[first].bias is None else layers[first]
        at.register_forward_hook(lambda _module, _inputs, output, seen=seen: seen.append(output))
    with torch.inference_mode():
        student_stages(student, image_BCHW * 2 - 1)
        network((image_BCHW - mean_C) / std_C)
    assert torch.allclose(inner(ours[0]), inner(theirs[0]), atol=1e-4)
    deeper = [value for name, value in student.named_parameters() if "norms" not in name and "head" not in name][2:]
    theirs_deeper = list(network.parameters())[2 : 2 + len(deeper)]
    assert all(torch.equal(*pair) for pair in zip(deeper, theirs_deeper, strict=True))


def test_what_is_not_normalised_is_seen_in_its_own_range(tmp_path: Path) -> None:
    folder = classifier_folder(tmp_path / "net", "upernet_textnet")
    units = {"do_normalize": False, "image_mean": MEAN, "image_std": STD}
    (folder / "preprocessor_config.json").write_text(json.dumps(units))
    network = TextNetForImageClassification.from_pretrained(folder)
    student = build_student("upernet_textnet", STUFF, SIZE, weights=folder)
    theirs, ours = (
        next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d)).weight
        for module in (network, student)
    )
    assert torch.allclose(ours, theirs / 2)


def test_a_student_starts_from_another_students_backbone_and_keeps_its_stride(tmp_path: Path) -> None:
    first = build_student("upernet_convnext", STUFF, SIZE, first_stride=1, seed=3)
    save_student(first, tmp_path / "net", {"classes": STUFF})
    second = build_student("upernet_convnext", STUFF, SIZE, weights=tmp_path / "net", seed=4)
    assert second.config.backbone_config.patch_size == 1
    for name, value in first.state_dict().items():
        same = torch.equal(value, second.state_dict()[name])
        assert same or not name.startswith("backbone."), name
    assert not torch.equal(first.decode_head.classifier.weight, second.decode_head.classifier.weight)


def test_half_precision_weights_are_taken_as_float32(tmp_path: Path) -> None:
    build_student("segformer_nano", STUFF, SIZE).bfloat16().save_pretrained(tmp_path / "net")
    student = build_student("segformer_nano", STUFF, SIZE, weights=tmp_path / "net")
    assert {value.dtype for value in student.parameters()} == {torch.float32}


def changed(folder: Path, change: Any) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("segformer.encoder.layer_norm.0.weight"), "lacks 1 tensors"),
        (lambda tensors: tensors.update({"segformer.encoder.layer_norm.0.weight": torch.ones(7)}), "another shape"),
        (
            lambda tensors: tensors.update({"segformer.encoder.block.9.0.weight": torch.ones(7)}),
            "that the backbone lacks",
        ),
        (lambda tensors: tensors["segformer.encoder.layer_norm.0.weight"].fill_(torch.nan), "not finite"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: Any, reason: str) -> None:
    folder = changed(classifier_folder(tmp_path / "net", "segformer_nano"), change)
    with pytest.raises(UnfitWeights, match=reason):
        build_student("segformer_nano", STUFF, SIZE, weights=folder)


def test_another_backbone_is_refused_with_what_differs(tmp_path: Path) -> None:
    folder = classifier_folder(tmp_path / "net", "segformer_nano")
    with pytest.raises(UnfitWeights, match=r"hidden_sizes is \[16, 32, 64, 96\], not \[32, 64, 160, 256\]"):
        build_student("segformer_b0", STUFF, SIZE, weights=folder)
    with pytest.raises(UnfitWeights, match="it is a segformer, not a swin"):
        build_student("upernet_swin_tiny", STUFF, SIZE, weights=folder)
    with pytest.raises(ValueError, match="not both"):
        build_student("segformer_nano", STUFF, SIZE, weights=folder, first_stride=2)


def test_directories_that_hold_no_safe_weights_are_refused(tmp_path: Path) -> None:
    folder = classifier_folder(tmp_path / "net", "segformer_nano")
    with pytest.raises(FileNotFoundError, match=r"elsewhere has no config\.json"):
        build_student("segformer_nano", STUFF, SIZE, weights=tmp_path / "elsewhere")
    (folder / "modeling.py").write_text("raise SystemExit")
    with pytest.raises(UnsafeDirectory, match=r"modeling\.py"):
        build_student("segformer_nano", STUFF, SIZE, weights=folder)
    (folder / "modeling.py").unlink()
    (folder / "model.safetensors").write_bytes(b"\x80\x04 no safetensors")
    with pytest.raises(UnfitWeights, match="not a safetensors file"):
        build_student("segformer_nano", STUFF, SIZE, weights=folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(UnfitWeights, match="not the configuration of a backbone"):
        build_student("segformer_nano", STUFF, SIZE, weights=folder)
