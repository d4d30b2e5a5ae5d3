"""Logit adjustment: the student names a rare class where its teacher does (cf. Menon et al., ICLR 2021, section 4.1).

A network that is unsure spreads its belief, and the most probable class of a doubtful pixel is the frequent one: a
student may lose a class of one pixel in a hundred that its teacher names. After training, each rare class gets the offset
on its logits with which the student's most probable classes agree best with its teacher's on images that it was distilled
from: none, where the class was not lost. The offsets go into the bias of the last layer, so that whoever runs the
network, in whatever runtime, needs to know nothing of it. Objects stay as they are: they grow into each other when they
grow. Axes: N pixel; C output channel; B batch, H, W.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from models.contracts import ClassSpec, Stop, Stopped
from models.examples import to_float_images
from models.students.batches import SoftDataset
from models.students.build import classifier, student_logits

RARE = 0.1
"""Share of the pixels that the teacher names a class in below which the class is rare."""
NUM_IMAGES = 400
"""Images of the dataset that are compared, evenly spaced."""
NUM_PIXELS = 200_000
"""Pixels of these images that are compared, drawn evenly."""
OFFSETS = np.arange(0, 31) / 10
"""What a class may get. Natural logarithm of odds: 3 makes a pixel's odds for the class twenty times higher."""


@torch.inference_mode()
def named_by_both(
    student: nn.Module, dataset: SoftDataset, *, batch_size: int, device: torch.device, stop: Stop | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The student's logits, float32 NC, and the teacher's most probable channel, int64 N, at the same pixels.

    The student computes in its own float precision, as it does when it is used. Raises Stopped where `stop` answers true.
    """
    picked = np.unique(np.linspace(0, len(dataset) - 1, min(NUM_IMAGES, len(dataset))).astype(int))
    rng = np.random.default_rng(0)
    per_image = -(-NUM_PIXELS // len(picked))
    logits: list[np.ndarray] = []
    named: list[np.ndarray] = []
    student.to(device).eval()
    for begin in range(0, len(picked), batch_size):
        if stop is not None and stop():
            raise Stopped
        pairs = [dataset[int(index)] for index in picked[begin : begin + batch_size]]
        logits_BCHW = student_logits(student, to_float_images([image_HWC for image_HWC, _ in pairs]).to(device))
        for logits_CHW, (_, probabilities_CHW) in zip(logits_BCHW.float().cpu().numpy(), pairs, strict=True):
            labelled_N = np.flatnonzero(probabilities_CHW.sum(axis=0).reshape(-1))
            pixels_N = rng.permutation(labelled_N)[:per_image]
            channels = len(probabilities_CHW)
            logits.append(logits_CHW.reshape(channels, -1)[:, pixels_N].T)
            named.append(probabilities_CHW.reshape(channels, -1)[:, pixels_N].argmax(axis=0))
    return np.concatenate(logits), np.concatenate(named)


def best_offsets(logits_NC: np.ndarray, named_N: np.ndarray, *, stop: Stop | None = None) -> np.ndarray:
    """What each rare class gets on its logits to agree best with the labels, float32 C: mean IoU over the classes, the
    smallest offset of equals. A class that nobody named gets nothing. Raises Stopped where `stop` answers true."""
    adjusted_NC, offsets_C = logits_NC.copy(), np.zeros(logits_NC.shape[1], np.float32)
    shares_C = np.bincount(named_N, minlength=len(offsets_C)) / max(1, len(named_N))
    rare = [channel for channel in np.argsort(shares_C) if 0 < shares_C[channel] < RARE]
    for _ in range(2):  # the second time with what the others got
        for channel in rare:
            if stop is not None and stop():
                raise Stopped
            adjusted_NC[:, channel] = -np.inf
            rival_N = adjusted_NC.argmax(axis=1)
            margin_N = adjusted_NC.max(axis=1) - logits_NC[:, channel]
            scores = [_mean_iou(np.where(margin_N < offset, channel, rival_N), named_N, shares_C) for offset in OFFSETS]
            offsets_C[channel] = OFFSETS[np.argmax(scores)]
            adjusted_NC[:, channel] = logits_NC[:, channel] + offsets_C[channel]
    return offsets_C


def _mean_iou(predicted_N: np.ndarray, named_N: np.ndarray, shares_C: np.ndarray) -> float:
    """Over the classes that the labels name."""
    channels = len(shares_C)
    both_C = np.bincount(named_N[predicted_N == named_N], minlength=channels)
    either_C = np.bincount(predicted_N, minlength=channels) + np.bincount(named_N, minlength=channels) - both_C
    return float((both_C / np.maximum(either_C, 1))[shares_C > 0].mean())


@torch.no_grad()
def adjust(
    student: nn.Module,
    dataset: SoftDataset,
    classes: Sequence[ClassSpec],
    *,
    batch_size: int,
    device: torch.device,
    stop: Stop | None = None,
) -> dict[str, float] | None:
    """Add the offsets to the last layer of a distilled network, once.

    Returns the offset of each class that got one; None where there are things or no logits per pixel. Raises Stopped
    where `stop` answers true.
    """
    layer = classifier(student)
    if layer is None or layer.bias is None or any(spec.thing for spec in classes):
        return None
    logits_NC, named_N = named_by_both(student, dataset, batch_size=batch_size, device=device, stop=stop)
    offsets_C = best_offsets(logits_NC, named_N, stop=stop)
    layer.bias += torch.from_numpy(offsets_C).to(layer.bias)
    return {spec.name: round(float(offset), 3) for spec, offset in zip(classes, offsets_C, strict=True) if offset > 0}
