"""A student as a predictor: uint8 images in, probabilities and instances out."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from models.contracts import ClassSpec
from models.examples import to_float_images
from models.instances import decode_instances
from models.metrics.evaluation import Prediction
from models.students.build import student_logits


class StudentPredictor:
    """Labels images with a student, in the student's own float precision."""

    def __init__(self, student: nn.Module, classes: Sequence[ClassSpec], *, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.student, self.classes = student.to(self.device).eval(), list(classes)

    @torch.inference_mode()
    def predict(self, images_BHWC: np.ndarray) -> Prediction:
        """uint8 RGB images -> channel probabilities (float32 BCHW) and instances."""
        logits_BCHW = student_logits(self.student, to_float_images(images_BHWC).to(self.device))
        return as_prediction(logits_BCHW.float().softmax(dim=1).cpu().numpy(), self.classes)


def as_prediction(probabilities_BCHW: np.ndarray, classes: Sequence[ClassSpec]) -> Prediction:
    """Adds the decoded instances where a class is a thing."""
    if not any(spec.thing for spec in classes):
        return Prediction(probabilities_BCHW, None)
    instances = [decode_instances(probabilities_CHW, classes) for probabilities_CHW in probabilities_BCHW]
    return Prediction(probabilities_BCHW, np.stack(instances))
