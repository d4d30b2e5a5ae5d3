"""An instance network (Mask2Former) as a student: queries that answer a class and a mask each, with no contour channel.

It learns hard labels: every object is a mask, and so is what is left of each stuff class, so that the same answer gives
label map and instances (Cheng et al., CVPR 2022). Its losses, with their Hungarian matching, are transformers' own.
Axes: B batch, C channel, H, W, M masks of an image, N classes, Q queries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.contracts import ClassSpec
from models.examples import to_float_images
from models.instances import channel_classes, decode_instances, fold_labels
from models.metrics.evaluation import Prediction

MIN_SCORE = 0.5
"""A query below this finds nothing."""
MIN_PIXELS = 4
"""Objects smaller than this are dropped, as in `decode_instances`."""


def masks_of(target_CHW: np.ndarray, classes: Sequence[ClassSpec]) -> tuple[np.ndarray, np.ndarray]:
    """Distributions over the channels -> (bool masks MHW, their class indices M); ignored pixels are in no mask."""
    known_HW = target_CHW.sum(axis=0) > 0.5
    label_HW = fold_labels(target_CHW.argmax(axis=0).astype(np.uint8), classes)
    instances_HW = decode_instances(target_CHW, classes) * known_HW
    masks, indices = [], []
    for instance in np.unique(instances_HW[instances_HW > 0]):
        inside_HW = instances_HW == instance
        masks.append(inside_HW)
        indices.append(int(np.bincount(label_HW[inside_HW]).argmax()))
    for index, spec in enumerate(classes):
        stuff_HW = known_HW & (label_HW == index)
        if not spec.thing and stuff_HW.any():
            masks.append(stuff_HW)
            indices.append(index)
    return np.stack(masks) if masks else np.zeros((0, *label_HW.shape), bool), np.array(indices, dtype=np.int64)


class InstanceObjective(nn.Module):
    """The network's own loss against the masks of hard labels; in float32, which its matching needs."""

    def __init__(self, student: nn.Module, classes: Sequence[ClassSpec]) -> None:
        super().__init__()
        self.student, self.classes = student, list(classes)

    @property
    def loss_weights(self) -> dict[str, float]:
        """Term of the loss -> weight, as the network's configuration has them."""
        config: Any = self.student.config
        return {"class": config.class_weight, "mask": config.mask_weight, "dice": config.dice_weight}

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """batch = (image_BCHW in [-1, 1], target_BCHW distributions over the channels) -> {"loss"}."""
        image_BCHW, target_BCHW = batch
        device = image_BCHW.device
        found = [masks_of(target_CHW, self.classes) for target_CHW in target_BCHW.cpu().numpy()]
        # An image without any label says nothing, and nothing cannot be matched.
        kept = [index for index, (_, indices_M) in enumerate(found) if len(indices_M)]
        with torch.autocast(device.type, enabled=False):
            if not kept:
                return {"loss": self.student(pixel_values=image_BCHW.float()).masks_queries_logits.sum() * 0.0}
            loss: Tensor = self.student(
                pixel_values=image_BCHW[kept].float(),
                mask_labels=[torch.from_numpy(found[index][0]).float().to(device) for index in kept],
                class_labels=[torch.from_numpy(found[index][1]).to(device) for index in kept],
            ).loss
        return {"loss": loss}


def instance_answers(student: nn.Module, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """(class logits BQN+1, the last of them "nothing", mask logits BQHW at the image's size)."""
    output = student(pixel_values=image_BCHW)
    masks_BQHW = functional.interpolate(
        output.masks_queries_logits.float(), size=image_BCHW.shape[-2:], mode="bilinear", align_corners=False
    )
    return output.class_queries_logits.float(), masks_BQHW


class InstancePredictor:
    """Labels images with an instance network."""

    def __init__(self, student: nn.Module, classes: Sequence[ClassSpec], *, device: torch.device | None = None) -> None:
        self.device = device or torch.device("cpu")
        self.student, self.classes = student.to(self.device).eval(), list(classes)

    @torch.inference_mode()
    def predict(self, images_BHWC: np.ndarray) -> Prediction:
        """uint8 RGB images -> channel probabilities (float32 BCHW, none for contours) and instances."""
        classes_BQN, masks_BQHW = instance_answers(self.student, to_float_images(images_BHWC).to(self.device))
        share_BQN, inside_BQHW = classes_BQN.softmax(dim=-1)[..., :-1], masks_BQHW.sigmoid()
        votes_BNHW = torch.einsum("bqn,bqhw->bnhw", share_BQN, inside_BQHW).clamp_min(1e-6)
        contours = len(channel_classes(self.classes)) - len(self.classes)
        probabilities_BCHW = functional.pad(votes_BNHW / votes_BNHW.sum(dim=1, keepdim=True), (0, 0, 0, 0, 0, contours))
        instances = [self._instances(*answer) for answer in zip(share_BQN.cpu(), inside_BQHW.cpu(), strict=True)]
        return Prediction(probabilities_BCHW.cpu().numpy(), np.stack(instances) if contours else None)

    def _instances(self, share_QN: Tensor, inside_QHW: Tensor) -> np.ndarray:
        """Instance ids uint16 HW: every pixel goes to the surest query that covers it, where that one found a thing."""
        score_Q, class_Q = share_QN.max(dim=-1)
        thing_Q = torch.tensor([spec.thing for spec in self.classes])[class_Q]
        claim_QHW = torch.where(
            (score_Q[:, None, None] > MIN_SCORE) & (inside_QHW > 0.5), score_Q[:, None, None] * inside_QHW, 0.0
        )
        best_HW, winner_HW = claim_QHW.max(dim=0)
        objects_HW = torch.where((best_HW > 0) & thing_Q[winner_HW], winner_HW + 1, 0).numpy()
        sizes = np.bincount(objects_HW.ravel())
        objects_HW[(sizes < MIN_PIXELS)[objects_HW]] = 0
        ids, compact = np.unique(objects_HW, return_inverse=True)
        first = 0 if ids[0] == 0 else 1
        instances_HW: np.ndarray = (compact.reshape(objects_HW.shape) + first).astype(np.uint16)
        return instances_HW
