"""The soft-label objective."""

import torch

from models.distillation import dice_loss, soft_cross_entropy, soften


def test_the_loss_is_least_where_student_and_teacher_agree() -> None:
    teacher = torch.tensor([2.0, 0.5, -1.0])[None, :, None, None].expand(1, 3, 4, 4)
    student = teacher.clone().requires_grad_()
    for temperature in (1.0, 4.0):
        loss = soft_cross_entropy(student, teacher.softmax(1), temperature=temperature)
        (gradient,) = torch.autograd.grad(loss, student)
        assert gradient.abs().max() < 1e-5


def test_ignored_pixels_do_not_count() -> None:
    logits = torch.randn(1, 3, 4, 4)
    target = torch.zeros(1, 3, 4, 4)
    target[:, 0, :2] = 1
    counted = soft_cross_entropy(logits[:, :, :2], target[:, :, :2])
    assert torch.allclose(soft_cross_entropy(logits, target), counted)
    assert soften(target, 4.0)[:, :, 2:].abs().max() == 0
    assert dice_loss(logits, torch.zeros_like(target)) == 0


def test_dice_is_zero_for_the_truth() -> None:
    target = torch.nn.functional.one_hot(torch.randint(0, 3, (2, 8, 8)), 3).permute(0, 3, 1, 2).float()
    assert dice_loss(target * 40, target) < 1e-3
    assert dice_loss(-target * 40, target) > 0.8
