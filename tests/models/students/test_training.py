"""Distilling, the baseline, and coming back after an interruption."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.augmentation import AugmentConfig
from models.contracts import ClassSpec, Stopped
from models.examples import Example
from models.feature_distillation import FeatureTeacher
from models.metrics.evaluation import evaluate
from models.students.batches import DistillationBatches, ExampleBatches, drawn_apart, hardened
from models.students.build import build_student
from models.students.predict import StudentPredictor
from models.students.tasks import label_objective
from models.students.training import Mode, StudentTrainConfig, train_baseline, train_student
from models.training_group import Alone, rows_of
from tests.models.tiny import STUFF, disc_examples, soft_dataset, tiny_generator

CPU = torch.device("cpu")
CONFIG = StudentTrainConfig(steps=25, finetune_steps=10, batch_size=8)


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


@pytest.mark.parametrize("stopped_at", [2, 6])
@pytest.mark.parametrize("mode", ["label", "feature", "mix"])
def test_an_interrupted_student_ends_as_an_uninterrupted_one(tmp_path: Path, mode: Mode, stopped_at: int) -> None:
    config = StudentTrainConfig(mode=mode, steps=4, finetune_steps=4, batch_size=4)
    teacher = FeatureTeacher(tiny_generator(), tap_timestep=50)
    dataset, examples = soft_dataset(disc_examples(6)), disc_examples(2, seed=5)
    whole = build_student("segformer_nano", STUFF, (32, 32))
    train_student(whole, dataset, examples, STUFF, config, teacher=teacher, device=CPU)
    polls = iter([False] * stopped_at + [True])
    path = tmp_path / "student"
    with pytest.raises(Stopped):
        train_student(
            build_student("segformer_nano", STUFF, (32, 32)),
            dataset,
            examples,
            STUFF,
            config,
            teacher=teacher,
            device=CPU,
            stop=lambda: next(polls),
            checkpoint_path=path,
        )
    resumed = build_student("segformer_nano", STUFF, (32, 32))
    train_student(resumed, dataset, examples, STUFF, config, teacher=teacher, device=CPU, checkpoint_path=path)
    for name, value in whole.state_dict().items():
        assert torch.allclose(value.float(), resumed.state_dict()[name].float(), atol=1e-4), name


@pytest.mark.parametrize("budget", [{"steps": 3}, {"seconds": 0.5}])
def test_without_a_fine_tune_there_is_one_phase(budget: dict[str, float]) -> None:
    config = StudentTrainConfig(**{"finetune_steps": 0, "batch_size": 2, **budget})
    student = build_student("segformer_nano", STUFF, (32, 32))
    training = train_student(student, soft_dataset(disc_examples(4)), disc_examples(2), STUFF, config, device=CPU)
    assert list(training["curves"]) == ["distil"]
    assert training["steps"] > 0


def trained(mode: Mode, architecture: str = "segformer_nano", **changes: Any) -> dict[str, torch.Tensor]:
    config = StudentTrainConfig(**{"mode": mode, "steps": 6, "finetune_steps": 2, "batch_size": 4, **changes})
    student = build_student(architecture, STUFF, (32, 32))
    teacher = FeatureTeacher(tiny_generator(), tap_timestep=50)
    dataset, examples = soft_dataset(disc_examples(6)), disc_examples(2, seed=5)
    train_student(student, dataset, examples, STUFF, config, teacher=teacher, device=CPU)
    return student.state_dict()


@pytest.mark.parametrize("architecture", ["segformer_nano", "upernet_textnet"])
def test_a_mix_without_weight_on_the_features_is_label_distillation(architecture: str) -> None:
    # A few steps: the gradient's norm sums over more tensors in a mix, and its last bit tells long runs apart.
    short: dict[str, Any] = {"steps": 3, "finetune_steps": 0}
    label, mix = trained("label", architecture, **short), trained("mix", architecture, feature_weight=0.0, **short)
    assert label.keys() == mix.keys()
    for name, value in label.items():
        assert torch.allclose(value.float(), mix[name].float(), atol=1e-5), name
    weighted = trained("mix", architecture, **short)
    assert any(not torch.allclose(value.float(), weighted[name].float(), atol=1e-3) for name, value in label.items())


@pytest.mark.parametrize("mode", ["feature", "mix"])
def test_the_same_seed_gives_the_same_student(mode: Mode) -> None:
    first, second = trained(mode), trained(mode)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("mode", ["feature", "mix"])
def test_a_student_learns_in_every_mode_and_says_how(mode: Mode) -> None:
    student = build_student("segformer_nano", STUFF, (32, 32))
    config = StudentTrainConfig(mode=mode, steps=30, finetune_steps=25, batch_size=8)
    result = train_student(
        student,
        soft_dataset(disc_examples(16)),
        disc_examples(2, seed=5),
        STUFF,
        config,
        teacher=FeatureTeacher(tiny_generator(), tap_timestep=50),
        device=CPU,
    )
    distil = result["curves"]["distil"]
    assert distil["loss"][-1] < distil["loss"][0]
    assert {"feature", "attention"} <= set(distil)
    assert (result["mode"], result["feature_timestep"]) == (mode, 50)
    assert result["loss_weights"]["attention"] == 10.0
    assert result["loss_weights"]["feature"] == 1.0
    scores = evaluate(StudentPredictor(student, STUFF), disc_examples(4, seed=9), STUFF)
    assert scores.miou is not None
    assert scores.miou > 0.7


def test_features_alone_leave_half_of_the_steps_to_the_decoder_and_the_budget_as_it_is() -> None:
    config = StudentTrainConfig(mode="feature", steps=5, finetune_steps=0)
    assert config.phase_steps == (2, 3)
    assert config.total_steps == StudentTrainConfig(steps=5, finetune_steps=0).total_steps
    assert StudentTrainConfig(mode="feature", steps=5, finetune_steps=4).phase_steps == (5, 4)
    assert StudentTrainConfig(mode="mix", steps=5, finetune_steps=0).phase_steps == (5, 0)


def test_features_need_a_generator_of_the_images_size() -> None:
    config = StudentTrainConfig(mode="mix", steps=1, batch_size=2)
    student = build_student("segformer_nano", STUFF, (64, 64))
    dataset, examples = soft_dataset(disc_examples(2, size=64)), disc_examples(2, size=64)
    with pytest.raises(ValueError, match="needs a generator"):
        train_student(student, dataset, examples, STUFF, config, device=CPU)
    teacher = FeatureTeacher(tiny_generator(), tap_timestep=50)
    with pytest.raises(ValueError, match="32x32, the images are 64x64"):
        train_student(student, dataset, examples, STUFF, config, teacher=teacher, device=CPU)
    with pytest.raises(ValueError, match="no mode 'dream'"):
        StudentTrainConfig(mode="dream")  # type: ignore[arg-type]


def test_hard_labels_are_the_most_probable_class_and_ignored_pixels_stay_ignored() -> None:
    target_BCHW = torch.tensor([[[[0.2, 0.6, 0.0]], [[0.5, 0.3, 0.0]], [[0.3, 0.1, 0.0]]]])
    assert hardened(target_BCHW).tolist() == [[[[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]]


def test_labels_and_the_share_of_examples_reach_the_batches_and_the_card() -> None:
    soft, hard = trained("label"), trained("label", labels="hard")
    assert any(not torch.allclose(value.float(), hard[name].float(), atol=1e-4) for name, value in soft.items())
    config = StudentTrainConfig(steps=1, batch_size=2, labels="hard", example_share=0.0)
    student = build_student("segformer_nano", STUFF, (32, 32))
    card = train_student(student, soft_dataset(disc_examples(2)), disc_examples(2), STUFF, config, device=CPU)
    assert (card["labels"], card["example_share"]) == ("hard", 0.0)
    with pytest.raises(ValueError, match="no 'crisp' labels"):
        StudentTrainConfig(labels="crisp")  # type: ignore[arg-type]


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize(("share", "bright"), [(0.0, 0), (0.25, 1), (0.5, 2), (1.0, 4)])
def test_a_batch_has_its_share_of_the_few_labels_however_many_processes_see_it(
    share: float, bright: int, processes: int
) -> None:
    still = AugmentConfig(False, False, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    dark, light = (Example(np.full((8, 8, 3), value, np.uint8), np.zeros((8, 8), np.uint8)) for value in (0, 255))
    pool = [(dark.image_HWC, np.stack([np.full((8, 8), part, np.float32) for part in (0.6, 0.4)]))]
    whole = []
    for rank in range(processes):
        beside = Beside(rank, processes)
        batches = DistillationBatches(
            pool,
            ExampleBatches([light], STUFF, still, 4, CPU),
            still,
            batch_size=4,
            example_share=share,
            hard=True,
            weights=None,
            device=CPU,
            rows=rows_of(beside, 4),
        )
        whole.append(drawn_apart(batches, beside)(torch.Generator().manual_seed(0)))
    assert {len(image_BCHW) for image_BCHW, _ in whole} == {4 // processes}
    assert sum(int((image_BCHW.mean((1, 2, 3)) > 0).sum()) for image_BCHW, _ in whole) == bright
    assert all(torch.allclose(target_BCHW[:, 0], torch.ones(1)) for _, target_BCHW in whole)


class Beside(Alone):
    """One of several processes that never meet."""

    def __init__(self, rank: int, count: int) -> None:
        self.rank, self.count = rank, count


def test_every_process_draws_for_itself_and_the_leader_what_one_process_draws() -> None:
    drawn = [
        drawn_apart(lambda generator: torch.rand(3, generator=generator).tolist(), Beside(rank, 2))(
            torch.Generator().manual_seed(7)
        )
        for rank in (0, 1, 1)
    ]
    assert drawn[0] == torch.rand(3, generator=torch.Generator().manual_seed(7)).tolist()
    assert drawn[1] == drawn[2] != drawn[0]
    with pytest.raises(ValueError, match="5 images cannot be shared out evenly among 2 processes"):
        rows_of(Beside(0, 2), 5)


def test_a_network_that_finds_objects_is_trained_by_one_process() -> None:
    things = [ClassSpec("background", background=True), ClassSpec("disc", thing=True)]
    network = build_student("mask2former_nano", things, (32, 32))
    with pytest.raises(ValueError, match="by one process"):
        label_objective(network, things, dice_weight=1.0, group=Beside(0, 2))
