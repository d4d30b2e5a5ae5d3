"""A distilled student names rare classes where its teacher does; the last layer alone moves."""

import numpy as np
import pytest
import torch
from torch import Tensor

from models.contracts import ClassSpec, Stopped
from models.students.build import build_student, classifier, student_logits
from models.students.logit_adjustment import OFFSETS, adjust, best_offsets, named_by_both
from models.students.training import StudentTrainConfig, train_baseline, train_student
from tests.models.tiny import STUFF, disc_examples, rare_examples, soft_dataset

CPU = torch.device("cpu")
THREE = (ClassSpec("ground", False), ClassSpec("cell", True), ClassSpec("rare", False))


def undecided(rare_logit: float, *, seen: int = 50, lookalikes: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """1,000 pixels of two classes; the teacher names `seen` rare ones, to which, as to as many `lookalikes` of the
    frequent class, the student gives `rare_logit`; it is sure of the rest."""
    logits_NC = np.zeros((1000, 2), np.float32)
    logits_NC[:, 1] = -9
    logits_NC[: seen + lookalikes, 1] = rare_logit
    named_N = np.zeros(1000, np.int64)
    named_N[:seen] = 1
    return logits_NC, named_N


def test_a_lost_class_gets_the_smallest_offset_that_brings_it_back() -> None:
    assert best_offsets(*undecided(-1.25)) == pytest.approx([0, 1.3])


def test_a_class_that_is_not_lost_gets_nothing() -> None:
    assert best_offsets(*undecided(0.5)) == pytest.approx([0, 0])


def test_what_would_bring_back_more_of_others_than_of_its_own_gets_nothing() -> None:
    assert best_offsets(*undecided(-1.25, seen=10, lookalikes=0))[1] > 0
    assert best_offsets(*undecided(-1.25, seen=10, lookalikes=900))[1] == 0


def test_frequent_classes_and_those_that_nobody_names_stay() -> None:
    assert best_offsets(*undecided(-1.25, seen=150)) == pytest.approx([0, 0])
    logits_NC, named_N = undecided(-1.25, seen=0)
    assert best_offsets(logits_NC, named_N) == pytest.approx([0, 0])


def test_two_rare_classes_are_weighed_against_each_other() -> None:
    logits_NC = np.full((1000, 3), -9, np.float32)
    logits_NC[:, 0] = 0
    named_N = np.zeros(1000, np.int64)
    logits_NC[:40, 1:], named_N[:40] = (-1.0, -1.5), 1
    logits_NC[40:80, 1:], named_N[40:80] = (-2.0, -0.5), 2
    offsets_C = best_offsets(logits_NC, named_N)
    assert ((logits_NC + offsets_C).argmax(axis=1) == named_N).all()
    assert set(offsets_C.tolist()) <= set(OFFSETS.astype(np.float32).tolist())


def test_pixels_that_the_teacher_leaves_out_are_not_compared() -> None:
    dataset = soft_dataset(disc_examples(3))
    image_HWC, probabilities_CHW = dataset[0]
    ignored_CHW = probabilities_CHW.copy()
    ignored_CHW[:, :10] = 0
    student = build_student("segformer_nano", STUFF, (32, 32))
    logits_NC, named_N = named_by_both(
        student, [(image_HWC, ignored_CHW), dataset[1], dataset[2]], batch_size=2, device=CPU
    )
    assert logits_NC.shape == (len(named_N), len(probabilities_CHW))
    assert len(named_N) == 3 * 32 * 32 - 10 * 32


@pytest.mark.parametrize("architecture", ["segformer_nano", "upernet_textnet"])
def test_the_logits_move_by_the_offsets_and_nothing_else_does(architecture: str) -> None:
    student = build_student(architecture, STUFF, (32, 32))
    train_baseline(student, rare_examples(4), STUFF, StudentTrainConfig(steps=60, batch_size=4), device=CPU)
    layer = classifier(student.eval())
    assert layer is not None
    assert layer.bias is not None
    layer.bias.data[1] -= 2.0  # the rare class is lost
    image_BCHW = torch.rand(2, 3, 32, 32) * 2 - 1
    dataset = soft_dataset(rare_examples(4))
    with torch.inference_mode():
        before_BCHW = student_logits(student, image_BCHW)
    offsets_C = best_offsets(*named_by_both(student, dataset, batch_size=4, device=CPU))
    named = adjust(student, dataset, STUFF, batch_size=4, device=CPU)
    with torch.inference_mode():
        moved_BCHW = student_logits(student, image_BCHW) - before_BCHW
    assert named
    assert [named.get(spec.name, 0) for spec in STUFF] == pytest.approx(offsets_C.tolist(), abs=1e-3)
    expected_BCHW = torch.from_numpy(offsets_C)[None, :, None, None].expand_as(moved_BCHW)
    torch.testing.assert_close(moved_BCHW, expected_BCHW, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", ["mask2former_nano", "segformer_nano"])
def test_where_objects_are_counted_nothing_moves(architecture: str) -> None:
    student = build_student(architecture, THREE, (32, 32))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    assert adjust(student, soft_dataset(rare_examples(2)), THREE, batch_size=2, device=CPU) is None
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())


@pytest.mark.parametrize("finetune_steps", [0, 1])
def test_a_distilled_student_is_adjusted_once_at_the_end(finetune_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StudentTrainConfig(steps=20, finetune_steps=finetune_steps, batch_size=4)
    few, dataset = rare_examples(2), soft_dataset(rare_examples(4))

    def trained() -> tuple[dict[str, Tensor], dict[str, object]]:
        student = build_student("segformer_nano", STUFF, (32, 32))
        card = train_student(student, dataset, few, STUFF, config, device=CPU)
        return student.state_dict(), card

    moved, card = trained()
    monkeypatch.setattr("models.students.training.adjust", lambda *_, **__: None)
    plain, plain_card = trained()
    changed = [name for name, value in moved.items() if not torch.equal(value, plain[name])]
    assert changed == ["decode_head.classifier.bias"]
    difference_C = moved[changed[0]] - plain[changed[0]]
    offsets = card["logit_adjustment"]
    assert isinstance(offsets, dict)
    assert offsets
    assert difference_C.tolist() == pytest.approx([offsets.get(spec.name, 0) for spec in STUFF], abs=1e-3)
    assert "logit_adjustment" not in plain_card


def test_without_a_teacher_nothing_is_adjusted() -> None:
    config = StudentTrainConfig(steps=2, batch_size=4)
    student = build_student("segformer_nano", STUFF, (32, 32))
    assert "logit_adjustment" not in train_baseline(student, rare_examples(2), STUFF, config, device=CPU)


def test_a_stop_is_heeded_between_classes() -> None:
    with pytest.raises(Stopped):
        best_offsets(*undecided(-1.25), stop=lambda: True)


def test_a_stop_is_heeded_between_batches() -> None:
    student, asked = build_student("segformer_nano", STUFF, (32, 32)), iter([False, True])
    with pytest.raises(Stopped):
        adjust(student, soft_dataset(rare_examples(6)), STUFF, batch_size=2, device=CPU, stop=lambda: next(asked))
