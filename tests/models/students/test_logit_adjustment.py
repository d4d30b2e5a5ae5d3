"""Rare classes are moved towards, in the last layer alone."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.contracts import ClassSpec
from models.examples import Example
from models.students.build import build_student, student_logits
from models.students.logit_adjustment import LEAST_SHARE, RARE, adjust, class_shares, logit_offsets
from models.students.training import StudentTrainConfig, train_baseline, train_student
from tests.models.tiny import STUFF, disc_examples, rare_examples, soft_dataset

CPU = torch.device("cpu")
THREE = (ClassSpec("ground", False), ClassSpec("cell", True), ClassSpec("rare", False))


def example(*rows: list[int]) -> Example:
    label_HW = np.array(rows, np.uint8)
    return Example(np.zeros((*label_HW.shape, 3), np.uint8), label_HW)


def test_shares_count_annotated_pixels_alone() -> None:
    found = class_shares([example([0, 0, 0, 255], [0, 1, 255, 255]), example([1, 2, 0, 0])], 3)
    assert found == pytest.approx([6 / 9, 2 / 9, 1 / 9])
    assert class_shares([example([255, 255])], 3) == pytest.approx([0, 0, 0])


def test_the_rarer_the_higher_and_what_is_frequent_stays() -> None:
    ground, cell, rare = logit_offsets([example([0] * 70 + [1] * 25 + [2] * 5)], THREE, 0.5).tolist()
    assert ground == cell == 0
    assert rare == pytest.approx(0.5 * math.log(RARE / 0.05))


def test_what_was_never_seen_is_not_named_more_often_and_a_handful_of_pixels_is_no_measure() -> None:
    offsets = logit_offsets([example([0] * 9_999 + [2])], THREE, 1.0).tolist()
    assert offsets == [0, 0, pytest.approx(math.log(RARE / LEAST_SHARE))]
    assert logit_offsets([example([255])], THREE, 1.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("architecture", ["segformer_nano", "upernet_textnet"])
def test_the_logits_move_by_the_offsets_and_nothing_else_does(architecture: str) -> None:
    student = build_student(architecture, STUFF, (32, 32)).eval()
    image_BCHW = torch.rand(2, 3, 32, 32) * 2 - 1
    examples = rare_examples(2)
    with torch.inference_mode():
        before_BCHW = student_logits(student, image_BCHW)
    assert adjust(student, examples, STUFF, 0.25)
    with torch.inference_mode():
        moved_BCHW = student_logits(student, image_BCHW) - before_BCHW
    offsets_C = logit_offsets(examples, STUFF, 0.25)
    assert offsets_C.unique().numel() > 1
    torch.testing.assert_close(moved_BCHW, offsets_C[None, :, None, None].expand_as(moved_BCHW), atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["mask2former_nano", "segformer_nano"])
def test_where_objects_are_counted_nothing_moves(architecture: str) -> None:
    student = build_student(architecture, THREE, (32, 32))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert not adjust(student, rare_examples(2), THREE, 0.5)
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


@pytest.mark.parametrize("distilled", [True, False])
def test_training_adjusts_once_at_its_end(distilled: bool) -> None:
    def trained(strength: float) -> tuple[dict[str, Tensor], dict[str, object]]:
        config = StudentTrainConfig(steps=2, finetune_steps=1, batch_size=4, logit_adjustment=strength)
        student, few = build_student("segformer_nano", STUFF, (32, 32)), rare_examples(2)
        if distilled:
            card = train_student(student, soft_dataset(disc_examples(4)), few, STUFF, config, device=CPU)
        else:
            card = train_baseline(student, few, STUFF, config, device=CPU)
        return student.state_dict(), card

    plain, plain_card = trained(0.0)
    moved, card = trained(0.25)
    changed = [name for name, value in moved.items() if not torch.equal(value, plain[name])]
    assert changed == ["decode_head.classifier.bias"]
    difference_C = moved[changed[0]] - plain[changed[0]]
    torch.testing.assert_close(difference_C, logit_offsets(rare_examples(2), STUFF, 0.25))
    assert card["logit_adjustment"] == 0.25
    assert "logit_adjustment" not in plain_card
