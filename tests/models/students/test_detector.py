"""A detector as a student: it learns boxes, is measured as COCO does, and others can use it without this project."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from models.contracts import ClassSpec
from models.metrics.boxes import Boxes
from models.metrics.evaluation import evaluate
from models.students.batches import one_hot_targets
from models.students.build import build_student, num_parameters, stage_channels, student_stages
from models.students.card import load_student, save_student
from models.students.detector import DetectionObjective, StudentDetector, boxes_of
from models.students.onnx_export import export_onnx
from models.students.tasks import student_predictor
from models.students.training import StudentTrainConfig, train_baseline, train_student
from tests.models.tiny import STUFF, THINGS, disc_examples

CPU = torch.device("cpu")
IMAGES = np.stack([example.image_HWC for example in disc_examples(3)])


def targets(count: int) -> np.ndarray:
    return one_hot_targets(disc_examples(count), THINGS).numpy()


def test_boxes_are_those_around_the_objects() -> None:
    example = disc_examples(1)[0]
    assert example.instances_HW is not None
    boxes_M4, outputs_M = boxes_of(targets(1)[0], THINGS)
    assert outputs_M.tolist() == [0, 0]
    expected = []
    for instance in (1, 2):
        rows, columns = np.nonzero(example.instances_HW == instance)
        expected.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    corners_M4 = (
        np.concatenate([boxes_M4[:, :2] - boxes_M4[:, 2:] / 2, boxes_M4[:, :2] + boxes_M4[:, 2:] / 2], axis=1) * 32
    )
    assert np.allclose(sorted(corners_M4.tolist()), sorted(expected), atol=1.01)


def test_stuff_has_no_boxes_and_an_empty_image_teaches_that_nothing_is_there() -> None:
    target_BCHW = torch.from_numpy(targets(2))
    target_BCHW[1] = 0
    target_BCHW[1, 0] = 1
    boxes_M4, _ = boxes_of(target_BCHW[1].numpy(), THINGS)
    assert boxes_M4.shape == (0, 4)
    objective = DetectionObjective(build_student("rtdetr_nano", THINGS, (32, 32)), THINGS)
    loss = objective((torch.rand(2, 3, 32, 32), target_BCHW))["loss"]
    empty = objective((torch.rand(1, 3, 32, 32), target_BCHW[1:]))["loss"]
    assert loss > empty > 0
    unknown = objective((torch.rand(1, 3, 32, 32), torch.zeros_like(target_BCHW[1:])))["loss"]
    assert unknown.item() == 0


def test_it_learns_discs() -> None:
    student = build_student("rtdetr_nano", THINGS, (32, 32))
    few = disc_examples(8)
    pool = [(example.image_HWC, target_CHW) for example, target_CHW in zip(few, targets(8), strict=True)]
    config = StudentTrainConfig(steps=30, finetune_steps=0, batch_size=4)
    training = train_student(student, pool, few, THINGS, config, device=CPU)
    assert training["labels"] == "hard"
    assert training["loss_weights"] == {"class": 1.0, "box": 5.0, "giou": 2.0}
    losses = training["curves"]["distil"]["loss"]
    assert losses[-1] < 0.9 * losses[0]
    scores = evaluate(student_predictor(student, THINGS), few, THINGS)
    assert scores.box_ap is not None
    assert scores.box_ap50 is not None
    assert (scores.miou, scores.ap, scores.confusion_matrix) == (None, None, [])


def test_the_same_seed_gives_the_same_weights() -> None:
    weights = []
    for _ in range(2):
        student = build_student("rtdetr_nano", THINGS, (32, 32), seed=3)
        train_baseline(student, disc_examples(2), THINGS, StudentTrainConfig(steps=2, batch_size=2), device=CPU)
        weights.append(student.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


class Answering(torch.nn.Module):
    """Gives the same answer to every image: two queries, two thing classes."""

    def forward(self, pixel_values: torch.Tensor) -> "Answering":
        self.logits = torch.tensor([[[-9.0, 2.0], [3.0, -9.0]]]).repeat(len(pixel_values), 1, 1)
        boxes_Q4 = [[0.5, 0.5, 0.5, 0.25], [0.9, 0.5, 0.4, 1.0]]
        self.pred_boxes = torch.tensor([boxes_Q4]).repeat(len(pixel_values), 1, 1)
        return self


def test_boxes_are_pixels_of_things_the_surest_first() -> None:
    classes = [ClassSpec("disc", thing=True), ClassSpec("ground", background=True), ClassSpec("ring", thing=True)]
    found = StudentDetector(Answering(), classes).detect(np.zeros((2, 8, 16, 3), np.uint8))
    assert len(found) == 2
    assert found[1].classes_D.tolist() == [0, 2]
    assert np.allclose(found[1].corners_D4, [[11.2, 0, 16, 8], [4, 3, 12, 5]])
    assert found[1].scores_D.tolist() == pytest.approx([0.953, 0.881], abs=1e-3)


def test_transformers_alone_loads_it_and_onnx_agrees(tmp_path: Path) -> None:
    student = build_student("rtdetr_nano", THINGS, (32, 32)).eval()
    save_student(student, tmp_path, {"title": "Discs", "classes": THINGS})
    alone = AutoModelForObjectDetection.from_pretrained(tmp_path, local_files_only=True).eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    assert alone.config.id2label == {0: "disc"}
    inputs = processor(list(IMAGES), return_tensors="pt")
    with torch.inference_mode():
        answer = alone(**inputs)
    ours = StudentDetector(load_student(tmp_path), THINGS).detect(IMAGES)
    found = processor.post_process_object_detection(answer, threshold=0.0, target_sizes=[(32, 32)] * 3)
    for boxes, theirs in zip(ours, found, strict=True):
        assert np.allclose(boxes.scores_D, theirs["scores"], atol=1e-4)
        assert np.allclose(boxes.corners_D4, theirs["boxes"].clamp(0, 32), atol=0.05)
    readme = (tmp_path / "README.md").read_text()
    assert "AutoModelForObjectDetection" in readme
    assert "pipeline_tag: object-detection" in readme
    parity = export_onnx(student, tmp_path / "model.onnx", IMAGES)
    assert parity["agreement"] > 0.999
    assert parity["num_images"] == 3


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_queries_are_never_more_than_places(stride: int) -> None:
    student = build_student("rtdetr_nano", THINGS, (32, 64), first_stride=stride).eval()
    with torch.inference_mode():
        answer = student(pixel_values=torch.zeros(1, 3, 32, 64))
        stages = student_stages(student, torch.zeros(1, 3, 32, 64))
    places = sum(stage_BCHW.shape[-1] * stage_BCHW.shape[-2] for stage_BCHW in stages)
    assert answer.logits.shape == (1, min(100, places), 1)
    assert stages[0].shape[-1] == 64 // (2 * stride)
    assert [stage_BCHW.shape[1] for stage_BCHW in stages] == stage_channels(student) == [64, 96, 128]


def test_the_large_one_has_the_published_size() -> None:
    with torch.device("meta"):
        student = build_student("rtdetr_resnet_18", THINGS, (640, 640))
    assert num_parameters(student) / 1e6 == pytest.approx(20.1, abs=0.2)


def test_without_things_there_is_no_detector() -> None:
    with pytest.raises(ValueError, match="no class is of things"):
        build_student("rtdetr_nano", STUFF, (32, 32))


def test_it_starts_from_a_segmentation_students_backbone_and_from_another_detectors(tmp_path: Path) -> None:
    segmenter = build_student("upernet_textnet", THINGS, (32, 32), seed=1)
    save_student(segmenter, tmp_path / "segmenter", {})
    first = build_student("rtdetr_nano", THINGS, (32, 32), weights=tmp_path / "segmenter", seed=2)
    save_student(first, tmp_path / "detector", {})
    second = build_student("rtdetr_nano", THINGS, (32, 32), weights=tmp_path / "detector", seed=3)
    theirs = segmenter.backbone.state_dict()
    for student in (first, second):
        ours = student.model.backbone.model.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert not torch.equal(first.model.enc_score_head.weight, second.model.enc_score_head.weight)


def test_boxes_in_cocos_form_and_as_a_picture() -> None:
    boxes = Boxes(
        np.array([[1, 2, 5, 6], [0, 0, 8, 8]], np.float32), np.array([1, 1]), np.array([0.75, 0.25], np.float32)
    )
    assert boxes.to_coco(7)[0] == {"image_id": 7, "category_id": 2, "bbox": [1.0, 2.0, 4.0, 4.0], "score": 0.75}
    painted_HW = boxes.painted(8, 8, THINGS)
    assert (painted_HW == 1).sum() == 12
    assert painted_HW[2, 1] == painted_HW[5, 4] == 1
    assert painted_HW[3, 2] == painted_HW[0, 0] == 0
