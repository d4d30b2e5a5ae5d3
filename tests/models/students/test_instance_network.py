"""An instance network as a student: it learns objects, and others can use it without this project."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForUniversalSegmentation

from models.contracts import ClassSpec
from models.feature_distillation import FeatureTeacher
from models.metrics.evaluation import evaluate
from models.students.batches import one_hot_targets
from models.students.build import build_student, num_parameters, stage_channels, student_stages
from models.students.card import load_student, save_student
from models.students.instance_network import InstanceObjective, InstancePredictor, masks_of
from models.students.onnx_export import export_onnx
from models.students.tasks import student_predictor
from models.students.training import StudentTrainConfig, train_baseline, train_student
from tests.models.tiny import THINGS, disc_examples, tiny_generator

CPU = torch.device("cpu")
IMAGES = np.stack([example.image_HWC for example in disc_examples(3)])


def targets(count: int) -> np.ndarray:
    return one_hot_targets(disc_examples(count), THINGS).numpy()


def test_masks_are_the_objects_and_the_ground() -> None:
    example = disc_examples(1)[0]
    assert example.instances_HW is not None
    masks_MHW, indices_M = masks_of(targets(1)[0], THINGS)
    assert indices_M.tolist() == [1, 1, 0]
    for mask_HW in masks_MHW[:2]:
        overlaps = [(mask_HW & (example.instances_HW == index)).sum() / mask_HW.sum() for index in (1, 2)]
        assert max(overlaps) > 0.95
    assert np.array_equal(masks_MHW[2], example.label_HW == 0)


def test_ignored_pixels_are_in_no_mask() -> None:
    target_CHW = targets(1)[0]
    target_CHW[:, :16] = 0
    masks_MHW, _ = masks_of(target_CHW, THINGS)
    assert not masks_MHW[:, :16].any()
    assert masks_MHW[:, 16:].any()


def test_images_without_any_label_teach_nothing() -> None:
    student = build_student("mask2former_nano", THINGS, (32, 32))
    objective = InstanceObjective(student, THINGS)
    image_BCHW, target_BCHW = torch.rand(2, 3, 32, 32), torch.from_numpy(targets(2))
    target_BCHW[1] = 0
    torch.manual_seed(0)
    both = objective((image_BCHW, target_BCHW))["loss"]
    torch.manual_seed(0)
    assert torch.allclose(both, objective((image_BCHW[:1], target_BCHW[:1]))["loss"])
    nothing = objective((image_BCHW[1:], target_BCHW[1:]))["loss"]
    nothing.backward()
    assert nothing.item() == 0


def test_it_learns_discs_by_queries() -> None:
    student = build_student("mask2former_nano", THINGS, (32, 32))
    config = StudentTrainConfig(steps=60, finetune_steps=0, batch_size=4)
    few = disc_examples(8)
    pool = [(example.image_HWC, target_CHW) for example, target_CHW in zip(few, targets(8), strict=True)]
    training = train_student(student, pool, few, THINGS, config, device=CPU)
    assert training["labels"] == "hard"
    assert training["loss_weights"] == {"class": 2.0, "mask": 5.0, "dice": 5.0}
    losses = training["curves"]["distil"]["loss"]
    assert losses[-1] < 0.7 * losses[0]
    scores = evaluate(student_predictor(student, THINGS), disc_examples(4, seed=9), THINGS)
    assert scores.miou is not None
    assert scores.miou > 0.6
    assert scores.ap50 is not None


def test_the_baseline_and_the_same_seed() -> None:
    weights = []
    for _ in range(2):
        student = build_student("mask2former_nano", THINGS, (32, 32), seed=3)
        train_baseline(student, disc_examples(2), THINGS, StudentTrainConfig(steps=2, batch_size=2), device=CPU)
        weights.append(student.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


class Answering(torch.nn.Module):
    """Gives the same answer to every image: logits of four queries."""

    def __init__(self, classes_QN: torch.Tensor, masks_QHW: torch.Tensor) -> None:
        super().__init__()
        self.classes_QN, self.masks_QHW = classes_QN, masks_QHW

    def forward(self, pixel_values: torch.Tensor) -> "Answering":
        self.class_queries_logits = self.classes_QN[None].repeat(len(pixel_values), 1, 1)
        self.masks_queries_logits = self.masks_QHW[None].repeat(len(pixel_values), 1, 1, 1)
        return self


def test_every_pixel_goes_to_the_surest_query_that_covers_it() -> None:
    ground, disc, nothing = ([9.0 if index == wanted else 0.0 for index in range(3)] for wanted in range(3))
    masks_QHW = torch.full((4, 8, 8), -9.0)
    masks_QHW[0], masks_QHW[1, :4, :4], masks_QHW[2, 3:, 3:], masks_QHW[3, 6:, :2] = 3.0, 9.0, 5.0, 9.0
    masks_QHW[0, :4, :4] = masks_QHW[0, 3:, 3:] = -9.0
    network = Answering(torch.tensor([ground, disc, disc, nothing]), masks_QHW)
    prediction = InstancePredictor(network, THINGS).predict(np.zeros((2, 8, 8, 3), np.uint8))
    assert prediction.probabilities_BCHW.shape == (2, 3, 8, 8)
    assert np.allclose(prediction.probabilities_BCHW.sum(axis=1), 1)
    assert prediction.labels_BHW(THINGS)[0, 0, 0] == 1
    assert prediction.labels_BHW(THINGS)[0, 0, 7] == 0
    assert prediction.instances_BHW is not None
    instances_HW = prediction.instances_BHW[0]
    assert {index: int((instances_HW == index).sum()) for index in np.unique(instances_HW)} == {0: 24, 1: 16, 2: 24}
    assert instances_HW[3, 3] == instances_HW[0, 0]


def test_transformers_alone_loads_it_and_onnx_agrees(tmp_path: Path) -> None:
    student = build_student("mask2former_nano", THINGS, (32, 32))
    save_student(student, tmp_path, {"title": "Discs", "classes": THINGS})
    alone = AutoModelForUniversalSegmentation.from_pretrained(tmp_path, local_files_only=True).eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert alone.config.id2label == {0: "ground", 1: "disc"}
    inputs = processor(list(IMAGES), return_tensors="pt")
    with torch.inference_mode():
        answer = alone(**inputs)
        ours = load_student(tmp_path)(pixel_values=inputs["pixel_values"])
    assert torch.allclose(answer.masks_queries_logits, ours.masks_queries_logits, atol=1e-4)
    found = processor.post_process_panoptic_segmentation(answer, threshold=0.5, target_sizes=[(32, 32)] * 3)
    assert found[0]["segmentation"].shape == (32, 32)
    readme = (tmp_path / "README.md").read_text()
    assert "AutoModelForUniversalSegmentation" in readme
    assert "post_process_panoptic_segmentation" in readme
    parity = export_onnx(student, tmp_path / "model.onnx", IMAGES)
    assert parity["agreement"] > 0.999


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_masks_are_as_fine_as_the_first_stage(stride: int) -> None:
    classes = [*THINGS, ClassSpec("rim")]
    student = build_student("mask2former_nano", classes, (32, 64), first_stride=stride).eval()
    with torch.inference_mode():
        answer = student(pixel_values=torch.zeros(1, 3, 32, 64))
        stages = student_stages(student, torch.zeros(1, 3, 32, 64))
    assert answer.masks_queries_logits.shape == (1, 100, 32 // stride, 64 // stride)
    assert answer.class_queries_logits.shape == (1, 100, 4)
    assert [stage_BCHW.shape[1] for stage_BCHW in stages] == stage_channels(student) == [24, 48, 96, 192]


def test_the_large_one_has_the_published_size() -> None:
    with torch.device("meta"):
        student = build_student("mask2former_swin_tiny", THINGS, (512, 512))
    assert num_parameters(student) / 1e6 == pytest.approx(47.4, abs=0.1)


def test_it_learns_features_but_no_mix() -> None:
    teacher = FeatureTeacher(tiny_generator(), tap_timestep=50)
    pool = [(example.image_HWC, target_CHW) for example, target_CHW in zip(disc_examples(2), targets(2), strict=True)]
    for mode in ("feature", "mix"):
        student = build_student("mask2former_nano", THINGS, (32, 32))
        config = StudentTrainConfig(mode=mode, steps=1, finetune_steps=1, batch_size=2)
        if mode == "mix":
            with pytest.raises(ValueError, match="no mix"):
                train_student(student, pool, disc_examples(2), THINGS, config, teacher=teacher, device=CPU)
        else:
            training = train_student(student, pool, disc_examples(2), THINGS, config, teacher=teacher, device=CPU)
            assert training["loss_weights"] == {"feature": 1.0, "attention": 10.0}


def test_it_starts_from_a_backbone_of_its_kind(tmp_path: Path) -> None:
    first = build_student("mask2former_nano", THINGS, (32, 32), seed=1)
    first.model.pixel_level_module.encoder.save_pretrained(tmp_path)
    second = build_student("mask2former_nano", THINGS, (32, 32), weights=tmp_path, seed=2)
    for name, value in first.state_dict().items():
        backbone = name.startswith("model.pixel_level_module.encoder.") and value.is_floating_point()
        assert torch.equal(value, second.state_dict()[name]) or not backbone, name
    assert not torch.equal(first.class_predictor.weight, second.class_predictor.weight)
