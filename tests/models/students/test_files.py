"""A student on disk: transformers alone reads it, ONNX Runtime agrees and tells nobody."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    SwinConfig,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from models.students.build import build_student, num_parameters
from models.students.card import load_student, save_student
from models.students.onnx_export import export_onnx
from models.students.predict import StudentPredictor
from tests.models.tiny import STUFF, THINGS, disc_examples

IMAGES = np.stack([example.image_HWC for example in disc_examples(3)])


def test_transformers_alone_gives_the_same_labels(tmp_path: Path) -> None:
    student = build_student("segformer_nano", THINGS, (32, 32))
    expected = StudentPredictor(student, THINGS).predict(IMAGES)
    save_student(
        student,
        tmp_path,
        {"title": "Discs", "licence": "CC0 1.0", "classes": THINGS, "report": {"student": {"miou": 0.5}}},
    )
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path, local_files_only=True).eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert model.config.id2label == {0: "ground", 1: "disc", 2: "disc contour"}
    with torch.inference_mode():
        logits = model(**processor(list(IMAGES), return_tensors="pt")).logits
    logits = torch.nn.functional.interpolate(logits, size=(32, 32), mode="bilinear", align_corners=False)
    assert np.allclose(logits.softmax(1).numpy(), expected.probabilities_BCHW, atol=1e-5)
    assert "| student | 0.500 |" in (tmp_path / "README.md").read_text()
    assert num_parameters(load_student(tmp_path)) == num_parameters(student)


def test_onnx_agrees_in_any_batch_size(tmp_path: Path) -> None:
    parity = export_onnx(build_student("segformer_nano", STUFF, (32, 32)), tmp_path / "model.onnx", IMAGES)
    assert parity["agreement"] == 1.0
    assert parity["num_images"] == 3
    assert parity["max_abs_error"] < 1e-3


def test_onnx_runtime_keeps_no_list_of_what_it_did_to_send_it_away(tmp_path: Path) -> None:
    export_onnx(build_student("segformer_nano", STUFF, (32, 32)), tmp_path / "model.onnx", IMAGES)
    home = tmp_path / "home"
    home.mkdir()
    # Under CI, and where the variable stands already, it is quiet by itself.
    told = {"CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "GITHUB_ACTIONS", "TF_BUILD"}
    environment = {name: value for name, value in os.environ.items() if name not in told} | {"HOME": str(home)}
    code = "import sys; from models.students import onnx_export as o; o.onnxruntime.InferenceSession(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.onnx"], env=environment, check=True, timeout=120)
    assert not [path for path in home.rglob("*") if "Microsoft" in path.parts]


@pytest.mark.slow
def test_onnx_of_shifted_windows_agrees_and_leaves_the_student_as_it_was(tmp_path: Path) -> None:
    stages = [f"stage{index}" for index in range(1, 5)]
    backbone = SwinConfig(patch_size=2, embed_dim=24, depths=[2, 1, 1, 1], num_heads=[1, 2, 2, 4], out_features=stages)
    config = UperNetConfig(backbone_config=backbone, hidden_size=16, use_auxiliary_head=False, num_labels=2)
    student = UperNetForSemanticSegmentation(config).eval()
    before = student.config._attn_implementation
    parity = export_onnx(student, tmp_path / "model.onnx", IMAGES)
    assert parity["agreement"] == 1.0
    assert student.config._attn_implementation == student.backbone.config._attn_implementation == before
