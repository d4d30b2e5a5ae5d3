"""What a student answers, by the task of its architecture: one table for training, predicting, loading and deploying.

Axes: B batch, C channel, H, W, N classes, Q queries.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Mask2FormerForUniversalSegmentation, RTDetrForObjectDetection

from models.contracts import ClassSpec
from models.distillation import SegmentationObjective
from models.metrics.boxes import BoxPredictor
from models.metrics.evaluation import Predictor
from models.registry import Task
from models.students.build import AUTO_CLASSES, student_logits
from models.students.detector import DetectionObjective, StudentDetector, detection_answers
from models.students.instance_network import InstanceObjective, InstancePredictor, instance_answers
from models.students.predict import StudentPredictor
from models.training_group import ALONE, Group


@dataclass(frozen=True)
class TaskParts:
    """The code of one task."""

    auto_class: Any
    """The class of transformers that loads a student's directory."""
    image_processor: str
    """The class of transformers that prepares images for it."""
    objective: Callable[..., nn.Module]
    """`objective(student, classes, dice_weight=..., temperature=..., group=...)`: what labels are learnt by."""
    predictor: Callable[..., Predictor | BoxPredictor]
    """`predictor(student, classes, device=...)`."""
    answers: Callable[[nn.Module, Tensor], tuple[Tensor, ...]]
    """Images BCHW -> what a deployed file answers."""
    decisions: dict[str, Callable[[Tensor], Tensor]]
    """Name of each answer -> what it decides, which must be the same in every form of the student."""
    usage: str
    """Lines of the card that follow the image and its processor."""


SEMANTIC_USAGE = """\
    with torch.inference_mode():
        logits = student(**processor(image, return_tensors="pt")).logits
    logits = torch.nn.functional.interpolate(logits, size=image.size[::-1], mode="bilinear", align_corners=False)
    labels = logits.argmax(1)[0]
"""
INSTANCE_USAGE = """\
    with torch.inference_mode():
        answer = student(**processor(image, return_tensors="pt"))
    found = processor.post_process_panoptic_segmentation(answer, threshold=0.5, target_sizes=[image.size[::-1]])[0]
    segments, classes = found["segmentation"], found["segments_info"]
"""

DETECTION_USAGE = """\
    with torch.inference_mode():
        answer = student(**processor(image, return_tensors="pt"))
    found = processor.post_process_object_detection(answer, threshold=0.5, target_sizes=[image.size[::-1]])[0]
    scores, classes, boxes = found["scores"], found["labels"], found["boxes"]
"""


def _semantic_objective(
    student: nn.Module, _classes: Sequence[ClassSpec], *, dice_weight: float, temperature: float, group: Group
) -> nn.Module:
    return SegmentationObjective(student, student_logits, temperature=temperature, dice_weight=dice_weight, group=group)


def _instance_objective(student: nn.Module, classes: Sequence[ClassSpec], **_soft: Any) -> nn.Module:
    """Hard labels have no temperature, and the network's configuration weighs its own Dice."""
    return InstanceObjective(student, classes)


def _detection_objective(student: nn.Module, classes: Sequence[ClassSpec], **_soft: Any) -> nn.Module:
    """Hard labels have no temperature, and boxes have no Dice."""
    return DetectionObjective(student, classes)


def _in_sixteenths(scores_BQ: Tensor) -> Tensor:
    """Sorted, as two equally sure queries may change places."""
    return (scores_BQ.sort(dim=1).values * 16).round()


TASKS: dict[Task, TaskParts] = {
    "semantic": TaskParts(
        AUTO_CLASSES["semantic"],
        "SegformerImageProcessor",
        _semantic_objective,
        StudentPredictor,
        lambda student, image_BCHW: (student_logits(student, image_BCHW),),
        {"logits": lambda logits_BCHW: logits_BCHW.argmax(1)},
        SEMANTIC_USAGE,
    ),
    "instance": TaskParts(
        AUTO_CLASSES["instance"],
        "Mask2FormerImageProcessor",
        _instance_objective,
        InstancePredictor,
        instance_answers,
        {
            "class_queries_logits": lambda classes_BQN: classes_BQN.argmax(-1),
            "masks_queries_logits": lambda masks_BQHW: masks_BQHW > 0,
        },
        INSTANCE_USAGE,
    ),
    "detection": TaskParts(
        AUTO_CLASSES["detection"],
        "RTDetrImageProcessor",
        _detection_objective,
        StudentDetector,
        detection_answers,
        {
            "logits": lambda logits_BQN: _in_sixteenths(logits_BQN.sigmoid()),
            "pred_boxes": _in_sixteenths,
        },
        DETECTION_USAGE,
    ),
}


def parts_of(student: nn.Module) -> TaskParts:
    """The code for a student, by its class."""
    if isinstance(student, RTDetrForObjectDetection):
        return TASKS["detection"]
    return TASKS["instance" if isinstance(student, Mask2FormerForUniversalSegmentation) else "semantic"]


def student_predictor(
    student: nn.Module, classes: Sequence[ClassSpec], *, device: torch.device | None = None
) -> Predictor | BoxPredictor:
    """The student as something that labels images or finds boxes."""
    return parts_of(student).predictor(student, classes, device=device)


def label_objective(
    student: nn.Module,
    classes: Sequence[ClassSpec],
    *,
    dice_weight: float,
    temperature: float = 1.0,
    group: Group = ALONE,
) -> nn.Module:
    """What the student learns labels by. Raises ValueError for a network that finds objects and is not trained alone:
    a part of a batch may hold no object, which its losses do not share."""
    parts = parts_of(student)
    if group.count > 1 and parts is not TASKS["semantic"]:
        raise ValueError("A network that finds objects is trained by one process.")
    return parts.objective(student, classes, dice_weight=dice_weight, temperature=temperature, group=group)
