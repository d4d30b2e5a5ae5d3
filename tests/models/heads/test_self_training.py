"""Students on the few labels alone, as a labeller."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.augmentation import AugmentConfig
from models.contracts import NotOffered, Stopped
from models.heads.ensemble import load_labeller
from models.heads.self_training import SelfTrainConfig, SelfTrainedStudents, fit_students
from models.labelling import FittedHead, LabellerPredictor, label_encoded, label_synthesized
from models.metrics.evaluation import evaluate
from models.students.build import build_student
from tests.models.tiny import STUFF, THINGS, disc_examples

CPU = torch.device("cpu")
CONFIG = SelfTrainConfig(architecture="segformer_nano", members=2, steps=3, batch_size=2)


def weights(fitted: FittedHead) -> dict[str, torch.Tensor]:
    assert isinstance(fitted.labeller, SelfTrainedStudents)
    return {
        f"{index}.{name}": value
        for index, student in enumerate(fitted.labeller.students)
        for name, value in student.state_dict().items()
    }


def test_they_learn_discs_without_a_generator_and_differ() -> None:
    config = SelfTrainConfig(architecture="segformer_nano", members=2, steps=40, batch_size=8)
    seen: list[tuple[int, int]] = []
    fitted = fit_students(
        None,
        disc_examples(4),
        STUFF,
        config,
        device=CPU,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    result = evaluate(LabellerPredictor(fitted.labeller), disc_examples(4, seed=9), STUFF)
    assert result.miou is not None
    assert result.miou > 0.7
    assert (fitted.card["kind"], fitted.card["members"], fitted.card["steps"]) == ("student", 2, 80)
    assert seen == sorted(seen)
    assert seen[-1] == (80, 80)
    images = np.stack([example.image_HWC for example in disc_examples(2, seed=3)])
    assert (label_encoded(fitted.labeller, images, seeds=[1, 2]).uncertainty_B > 0).all()


def test_no_seed_is_used_twice() -> None:
    seeds = [SelfTrainConfig(seed=seed).of_member(member).seed for seed in range(3) for member in range(3)]
    assert sorted(seeds) == list(range(9))


@pytest.mark.parametrize(("mirror", "upside_down"), [(False, False), (True, False), (True, True)])
def test_a_mirror_is_a_view_where_it_means_the_same(mirror: bool, upside_down: bool) -> None:
    config = SelfTrainConfig(
        architecture="segformer_nano",
        members=2,
        steps=1,
        batch_size=2,
        augment=AugmentConfig(horizontal_flip=mirror, vertical_flip=upside_down),
    )
    labeller = fit_students(None, disc_examples(2), THINGS, config, device=CPU).labeller
    images = np.stack([example.image_HWC for example in disc_examples(2)])
    with torch.inference_mode():
        members_KBCHW = labeller.members(images, seeds=[0, 1])
        across_KBCHW = labeller.members(np.ascontiguousarray(images[:, :, ::-1]), seeds=[0, 1])
        over_KBCHW = labeller.members(np.ascontiguousarray(images[:, ::-1]), seeds=[0, 1])
    assert members_KBCHW.shape == (2 * (1 + mirror) * (1 + upside_down), 2, 3, 32, 32)
    mean_BCHW = members_KBCHW.mean(0)
    assert torch.allclose(mean_BCHW, across_KBCHW.mean(0).flip(-1), atol=1e-5) == mirror
    assert torch.allclose(mean_BCHW, over_KBCHW.mean(0).flip(-2), atol=1e-5) == upside_down


def test_saved_students_answer_alike_and_are_found_by_their_kind(tmp_path: Path) -> None:
    labeller = fit_students(None, disc_examples(2), THINGS, CONFIG, device=CPU).labeller
    labeller.save(tmp_path)
    loaded = load_labeller(tmp_path, [])
    assert isinstance(loaded, SelfTrainedStudents)
    assert loaded.classes == tuple(THINGS)
    images = np.stack([example.image_HWC for example in disc_examples(2)])
    with torch.inference_mode():
        assert torch.allclose(loaded.members(images, seeds=[0, 1]), labeller.members(images, seeds=[0, 1]), atol=1e-5)


def test_a_stopped_fit_goes_on_to_the_same_students(tmp_path: Path) -> None:
    examples, path = disc_examples(2), tmp_path / "head.safetensors"
    whole = fit_students(None, examples, STUFF, CONFIG, device=CPU)
    asked = iter([False] * 4 + [True])
    with pytest.raises(Stopped):
        fit_students(None, examples, STUFF, CONFIG, device=CPU, stop=lambda: next(asked), checkpoint_path=path)
    resumed = fit_students(None, examples, STUFF, CONFIG, device=CPU, checkpoint_path=path)
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value)


def test_they_draw_no_images() -> None:
    labeller = fit_students(None, disc_examples(2), STUFF, CONFIG, device=CPU).labeller
    with pytest.raises(NotOffered, match="pool encoded"):
        label_synthesized(labeller, [1])


def test_members_start_from_the_weights_that_the_student_starts_from(tmp_path: Path) -> None:
    first = build_student("segformer_nano", STUFF, (32, 32), seed=7)
    first.save_pretrained(tmp_path / "net")
    config = SelfTrainConfig(architecture="segformer_nano", weights=tmp_path / "net", members=2, steps=0)
    fitted = fit_students(None, disc_examples(2), STUFF, config, device=CPU)
    assert isinstance(fitted.labeller, SelfTrainedStudents)
    for student in fitted.labeller.students:
        backbone, known = student.segformer.state_dict(), first.segformer.state_dict()
        assert all(torch.equal(value, known[name]) for name, value in backbone.items())
