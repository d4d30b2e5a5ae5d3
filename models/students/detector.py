"""A detector (RT-DETR) as a student: queries that answer a box and a thing's class each, with no label map.

It learns the boxes of hard labels: every object of the dataset's images is one. Its losses, with their Hungarian
matching and denoising queries, are transformers' own (Zhao et al., CVPR 2024).
Axes: B batch, C channel, H, W, M objects of an image, N thing classes, Q queries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.contracts import ClassSpec
from models.examples import to_float_images
from models.metrics.boxes import Boxes
from models.students.instance_network import masks_of

SIDE = 32
"""Images' sides must be multiples of this: the coarsest map's stride, at the coarsest first stage."""


def thing_indices(classes: Sequence[ClassSpec]) -> list[int]:
    """Class index of every output of a detector."""
    return [index for index, spec in enumerate(classes) if spec.thing]


def boxes_of(target_CHW: np.ndarray, classes: Sequence[ClassSpec]) -> tuple[np.ndarray, np.ndarray]:
    """Distributions over the channels -> (boxes M4 as centre and size in shares of the image, output indices M)."""
    masks_MHW, indices_M = masks_of(target_CHW, classes)
    outputs = {index: output for output, index in enumerate(thing_indices(classes))}
    height, width = target_CHW.shape[-2:]
    boxes, found = [], []
    for mask_HW, index in zip(masks_MHW, indices_M, strict=True):
        if index in outputs:
            rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
            left, right = columns[0] / width, (columns[-1] + 1) / width
            top, bottom = rows[0] / height, (rows[-1] + 1) / height
            boxes.append([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
            found.append(outputs[int(index)])
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(found, np.int64)


class DetectionObjective(nn.Module):
    """The network's own loss against the boxes of hard labels; in float32, which its matching needs."""

    def __init__(self, student: nn.Module, classes: Sequence[ClassSpec]) -> None:
        super().__init__()
        self.student, self.classes = student, list(classes)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Term of the loss -> weight, as the network's configuration has them."""
        config: Any = self.student.config
        return {"class": config.weight_loss_vfl, "box": config.weight_loss_bbox, "giou": config.weight_loss_giou}

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """batch = (image_BCHW in [-1, 1], target_BCHW distributions over the channels) -> {"loss"}."""
        image_BCHW, target_BCHW = batch
        device = image_BCHW.device
        # Of an image without any label nobody knows what is on it; one without objects teaches that there are none.
        kept_B = target_BCHW.sum(dim=(1, 2, 3)) > 0
        with torch.autocast(device.type, enabled=False):
            if not kept_B.any():
                return {"loss": self.student(pixel_values=image_BCHW.float()).logits.sum() * 0.0}
            found = [boxes_of(target_CHW, self.classes) for target_CHW in target_BCHW[kept_B].cpu().numpy()]
            labels = [
                {"boxes": torch.from_numpy(boxes_M4).to(device), "class_labels": torch.from_numpy(indices_M).to(device)}
                for boxes_M4, indices_M in found
            ]
            loss: Tensor = self.student(pixel_values=image_BCHW[kept_B].float(), labels=labels).loss
        return {"loss": loss}


def detection_answers(student: nn.Module, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """(class logits BQN, read by a sigmoid; boxes BQ4 as centre x, y, width, height in shares of the image)."""
    output = student(pixel_values=image_BCHW)
    return output.logits.float(), output.pred_boxes.float()


class StudentDetector:
    """Finds boxes with a detector."""

    def __init__(self, student: nn.Module, classes: Sequence[ClassSpec], *, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.student, self.outputs = student.to(self.device).eval(), np.array(thing_indices(classes))

    @torch.inference_mode()
    def detect(self, images_BHWC: np.ndarray) -> list[Boxes]:
        """uint8 RGB images -> as many boxes of each as there are queries, the surest first."""
        logits_BQN, boxes_BQ4 = detection_answers(self.student, to_float_images(images_BHWC).to(self.device))
        scores_BD, picks_BD = logits_BQN.sigmoid().flatten(1).topk(logits_BQN.shape[1], dim=1)
        height, width = images_BHWC.shape[1:3]
        sides = boxes_BQ4.new_tensor([width, height])
        corners_BQ4 = torch.cat(
            [boxes_BQ4[..., :2] - boxes_BQ4[..., 2:] / 2, boxes_BQ4[..., :2] + boxes_BQ4[..., 2:] / 2], dim=-1
        )
        corners_BQ4 = corners_BQ4.clamp(0, 1) * torch.cat([sides, sides])
        classes = logits_BQN.shape[2]
        return [
            Boxes(corners_Q4[picks_D // classes].numpy(), self.outputs[(picks_D % classes).numpy()], scores_D.numpy())
            for corners_Q4, picks_D, scores_D in zip(corners_BQ4.cpu(), picks_BD.cpu(), scores_BD.cpu(), strict=True)
        ]
