"""Distilling, the baseline, and coming back after an interruption."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.contracts import Stopped
from models.examples import Example
from models.metrics.evaluation import evaluate
from models.students.build import build_student
from models.students.predict import StudentPredictor
from models.students.training import StudentTrainConfig, train_baseline, train_student
from tests.models.tiny import STUFF, disc_examples

CPU = torch.device("cpu")
CONFIG = StudentTrainConfig(steps=25, finetune_steps=10, batch_size=8)


def soft_dataset(examples: list[Example]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        (example.image_HWC, np.moveaxis(np.eye(2, dtype=np.float32)[example.label_HW] * 0.8 + 0.1, -1, 0))
        for example in examples
    ]


def test_a_student_learns_from_soft_labels() -> None:
    student = build_student("segformer_nano", STUFF, (32, 32))
    result = train_student(
        student, soft_dataset(disc_examples(16)), disc_examples(2, seed=5), STUFF, CONFIG, device=CPU
    )
    assert result["steps"] == 35
    assert set(result["curves"]) == {"distil", "finetune"}
    scores = evaluate(StudentPredictor(student, STUFF), disc_examples(4, seed=9), STUFF)
    assert scores.miou is not None
    assert scores.miou > 0.7


def test_the_baseline_has_the_steps_of_both_phases() -> None:
    student = build_student("segformer_nano", STUFF, (32, 32))
    assert train_baseline(student, disc_examples(2), STUFF, CONFIG, device=CPU)["steps"] == 35


def test_an_interrupted_student_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    config = StudentTrainConfig(steps=4, finetune_steps=4, batch_size=4)
    dataset, examples = soft_dataset(disc_examples(6)), disc_examples(2, seed=5)
    whole = build_student("segformer_nano", STUFF, (32, 32))
    train_student(whole, dataset, examples, STUFF, config, device=CPU)
    polls = iter([False] * 6 + [True])
    path = tmp_path / "student"
    with pytest.raises(Stopped):
        train_student(
            build_student("segformer_nano", STUFF, (32, 32)),
            dataset,
            examples,
            STUFF,
            config,
            device=CPU,
            stop=lambda: next(polls),
            checkpoint_path=path,
        )
    resumed = build_student("segformer_nano", STUFF, (32, 32))
    train_student(resumed, dataset, examples, STUFF, config, device=CPU, checkpoint_path=path)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value.float(), resumed.state_dict()[name].float(), atol=1e-4), name


@pytest.mark.parametrize("budget", [{"steps": 3}, {"seconds": 0.5}])
def test_without_a_fine_tune_there_is_one_phase(budget: dict[str, float]) -> None:
    config = StudentTrainConfig(**{"finetune_steps": 0, "batch_size": 2, **budget})
    student = build_student("segformer_nano", STUFF, (32, 32))
    training = train_student(student, soft_dataset(disc_examples(4)), disc_examples(2), STUFF, config, device=CPU)
    assert list(training["curves"]) == ["distil"]
    assert training["steps"] > 0
