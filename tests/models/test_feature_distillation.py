"""Feature distillation: the losses, the regressor, and what a backbone learns from the generator."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.contracts import Features
from models.examples import to_float_images
from models.feature_distillation import (
    FeatureRegressor,
    FeatureTeacher,
    attention_distance,
    feature_losses,
    whiten,
)
from models.students.build import (
    build_student,
    stage_channels,
    student_logits,
    student_logits_and_stages,
    student_stages,
)
from models.students.training import StudentTrainConfig, train_student
from tests.models.tiny import STUFF, disc_examples, soft_dataset, tiny_generator

CPU = torch.device("cpu")


def feature_teacher() -> FeatureTeacher:
    return FeatureTeacher(tiny_generator(), tap_timestep=50)


def test_whitened_maps_have_no_scale_of_their_own() -> None:
    features = torch.randn(3, 4, 8, 8) * 7 + 2
    white = whiten(features)
    assert torch.allclose(white.mean((1, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(white.var((1, 2, 3), unbiased=False), torch.ones(3), atol=1e-4)
    assert torch.allclose(whiten(features * 3 - 1), white, atol=1e-4)


def test_attention_is_compared_image_by_image() -> None:
    one, other = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    one[:, :, 0, 0], other[:, :, 3, 3] = 1.0, 5.0
    assert attention_distance(one, one * 9) < 1e-6
    assert torch.allclose(attention_distance(one, other), torch.tensor(2.0).sqrt())
    assert torch.allclose(
        attention_distance(torch.cat([one, one * 100]), torch.cat([other, other])), attention_distance(one, other)
    )


def test_both_losses_are_zero_for_the_whitened_features_and_harmless_for_a_silent_regressor() -> None:
    features: Features = {"coarse": torch.randn(2, 6, 4, 4), "fine": torch.randn(2, 3, 8, 8) * 5}
    square, attention = feature_losses({name: whiten(value) for name, value in features.items()}, features)
    assert square < 1e-6
    assert attention < 1e-3
    silent = {name: torch.zeros_like(value).requires_grad_() for name, value in features.items()}
    loss = sum(feature_losses(silent, features))
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in silent.values())


# The smallest of each family; the larger ones' stages are held against their sizes in students/test_build.py.
@pytest.mark.parametrize(
    "architecture", ["upernet_textnet", "upernet_convnext", "upernet_swin_tiny", "upernet_resnet", "segformer_nano"]
)
def test_every_student_has_stages_from_which_any_tap_is_regressed(architecture: str) -> None:
    student = build_student(architecture, STUFF, (32, 32)).eval()
    image_BCHW = torch.rand(2, 3, 32, 32) * 2 - 1
    stages = student_stages(student, image_BCHW)
    assert [stage.shape[1] for stage in stages] == stage_channels(student)
    logits_BCHW, same = student_logits_and_stages(student, image_BCHW)
    assert torch.equal(logits_BCHW, student_logits(student, image_BCHW))
    assert all(torch.equal(stage, other) for stage, other in zip(stages, same, strict=True))
    sizes = {"coarsest": (2, 2), "middle": (8, 8), "finest": (32, 32)}
    regressor = FeatureRegressor(stage_channels(student), dict.fromkeys(sizes, 5))
    for count in (1, 2):
        regressed = regressor([stage[:count] for stage in stages], sizes)
        assert {name: tuple(value.shape) for name, value in regressed.items()} == {
            name: (count, 5, *size) for name, size in sizes.items()
        }


def test_a_network_without_known_stages_says_so() -> None:
    with pytest.raises(ValueError, match="Conv2d has no stages"):
        student_stages(nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="Conv2d has no stages"):
        stage_channels(nn.Conv2d(3, 2, 1))


def test_noise_is_fresh_and_from_the_given_draw() -> None:
    teacher = feature_teacher()
    image_BCHW = to_float_images([example.image_HWC for example in disc_examples(2)])
    draw = torch.Generator().manual_seed(0)
    first, second = teacher.features(image_BCHW, draw), teacher.features(image_BCHW, draw)
    again = teacher.features(image_BCHW, torch.Generator().manual_seed(0))
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert not torch.equal(value, second[name])
        assert not value.requires_grad


@pytest.mark.parametrize("architecture", ["segformer_nano", "upernet_textnet"])
def test_features_of_a_distilled_backbone_predict_those_of_the_generator_better(architecture: str) -> None:
    teacher = feature_teacher()
    student = build_student(architecture, STUFF, (32, 32))
    before = probe_error(student, teacher)
    config = StudentTrainConfig(mode="feature", steps=60, finetune_steps=1, finetune_learning_rate=1e-9, batch_size=8)
    few = disc_examples(2, seed=5)
    training = train_student(student, soft_dataset(disc_examples(16)), few, STUFF, config, teacher=teacher, device=CPU)
    curve = training["curves"]["distil"]
    assert curve["loss"][-1] < 0.8 * curve["loss"][0]
    assert curve["feature"][-1] < curve["feature"][0]
    after = probe_error(student, teacher)
    assert after < 0.95 * before


@torch.no_grad()
def probe_error(student: nn.Module, teacher: FeatureTeacher) -> float:
    """Squared error, on unseen images, of a linear map from the backbone's stages to the generator's whitened features."""
    fitted, unseen = (
        linear_problem(student.eval(), teacher, [example.image_HWC for example in disc_examples(count, seed=seed)])
        for count, seed in ((24, 21), (8, 22))
    )
    errors = []
    for (inputs_PC, targets_PC), (test_inputs_PC, test_targets_PC) in zip(fitted, unseen, strict=True):
        ridge = torch.eye(inputs_PC.shape[1]) * 1e-2 * len(inputs_PC)
        solution = torch.linalg.solve(inputs_PC.T @ inputs_PC + ridge, inputs_PC.T @ targets_PC)
        errors.append(float((test_inputs_PC @ solution - test_targets_PC).square().mean()))
    return sum(errors) / len(errors)


def linear_problem(
    student: nn.Module, teacher: FeatureTeacher, images: list[object]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(standardised stages with a bias, whitened features), both per pixel, of every tap."""
    image_BCHW = to_float_images(images)  # type: ignore[arg-type]
    stages = [whiten(stage_BCHW) for stage_BCHW in student_stages(student, image_BCHW)]
    problems = []
    for target_BCHW in teacher.features(image_BCHW, torch.Generator().manual_seed(3)).values():
        resized = [functional.interpolate(stage, size=target_BCHW.shape[-2:], mode="bilinear") for stage in stages]
        inputs_PC = torch.cat([*resized, torch.ones_like(resized[0][:, :1])], 1).permute(0, 2, 3, 1).flatten(0, 2)
        problems.append((inputs_PC, whiten(target_BCHW).permute(0, 2, 3, 1).flatten(0, 2)))
    return problems
