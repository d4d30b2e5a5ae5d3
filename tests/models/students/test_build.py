"""Every architecture by name: its size, its stages, its strides."""

import numpy as np
import pytest
import torch

from models.registry import STUDENTS
from models.students.build import (
    build_student,
    num_parameters,
    stage_channels,
    student_logits,
    student_stages,
)
from models.students.predict import StudentPredictor
from tests.models.tiny import STUFF

SMALL = ["upernet_textnet", "upernet_convnext", "upernet_efficientnet_lite0", "segformer_nano", "segformer_b0"]

MILLIONS = {
    "upernet_convnext_tiny": 59.2,
    "upernet_convnext_small": 80.9,
    "upernet_convnext_base": 120.8,
    "upernet_swin_tiny": 58.9,
    "upernet_swin_small": 80.3,
    "upernet_swin_base": 120.0,
    "upernet_resnet": 12.8,
    "upernet_resnet_50": 64.0,
    "upernet_resnet_101": 83.0,
    "segformer_b1": 13.7,
    "segformer_b2": 27.3,
    "segformer_b3": 47.2,
    "segformer_b4": 64.0,
    "segformer_b5": 84.6,
}
"""Weights for two classes: the published backbones and decoders."""


@pytest.mark.parametrize("architecture", SMALL)
def test_a_small_architecture_answers_at_the_image_size(architecture: str) -> None:
    student = build_student(architecture, STUFF, (32, 64))
    images = np.zeros((1, 32, 64, 3), np.uint8)
    assert StudentPredictor(student, STUFF).predict(images).probabilities_BCHW.shape == (1, 2, 32, 64)


@pytest.mark.parametrize("architecture", sorted(MILLIONS))
def test_a_large_architecture_has_the_published_size_and_known_stages(architecture: str) -> None:
    with torch.device("meta"):
        student = build_student(architecture, STUFF, (512, 512)).eval()
        image_BCHW = torch.empty(1, 3, 64, 96)
        logits_BCHW = student_logits(student, image_BCHW)
        stages = student_stages(student, image_BCHW)
    assert num_parameters(student) / 1e6 == pytest.approx(MILLIONS[architecture], abs=0.05)
    assert logits_BCHW.shape == (1, 2, 64, 96)
    assert [stage_BCHW.shape[1] for stage_BCHW in stages] == stage_channels(student)
    assert [tuple(stage_BCHW.shape[-2:]) for stage_BCHW in stages] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_every_architecture_is_tried() -> None:
    assert {*SMALL, *MILLIONS, *(name for name, student in STUDENTS.items() if student.task != "semantic")} == set(
        STUDENTS
    )


def test_the_first_stride_is_configuration() -> None:
    assert build_student("segformer_nano", STUFF, (64, 64)).config.strides[0] == 2
    assert build_student("segformer_nano", STUFF, (64, 64), first_stride=1).config.strides[0] == 1
    assert build_student("segformer_nano", STUFF, (512, 512)).config.strides[0] == 4
    with pytest.raises(ValueError, match="stride 3"):
        build_student("segformer_nano", STUFF, (64, 64), first_stride=3)
    with pytest.raises(ValueError, match="no student"):
        build_student("resnet_9000", STUFF, (64, 64))


@pytest.mark.parametrize(
    "architecture",
    [
        "upernet_textnet",
        "upernet_convnext",
        "upernet_swin_tiny",
        "upernet_resnet",
        "upernet_efficientnet_lite0",
        "segformer_nano",
    ],
)
def test_every_family_has_the_strides_it_says(architecture: str) -> None:
    for stride in STUDENTS[architecture].strides:
        with torch.device("meta"):
            student = build_student(architecture, STUFF, (64, 64), first_stride=stride).eval()
            finest_BCHW = student_stages(student, torch.empty(1, 3, 64, 64))[0]
        assert finest_BCHW.shape[-1] == 64 // stride


def test_the_same_seed_gives_the_same_weights() -> None:
    once, again = (build_student("segformer_nano", STUFF, (32, 32), seed=4) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True))
