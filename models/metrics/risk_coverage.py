"""What dropping uncertain images or pixels is worth: the mIoU of what is kept over the share that is dropped.

Both curves drop as the factory does: the most uncertain images of all (`filter.drop_share`), and the most uncertain
pixels of every image (`filter.ignore_pixel_share`). Streamed: of an image its counts per class are kept, no map.
Axes: B batch, H, W; N classes, S shares. Divergences are in nats.
"""

from dataclasses import dataclass

import numpy as np

from models.contracts import IGNORE
from models.selection import image_score, keep_most_certain, pixel_threshold

SHARES = tuple(step / 20 for step in range(11))
"""Shares that are dropped: none to half."""


@dataclass(frozen=True)
class FilterCurve:
    """Two curves over the same shares; JSON-ready by `asdict`."""

    num_images: int
    """Images with a labelled pixel: what was measured."""
    shares: tuple[float, ...]
    """Dropped shares, in [0, 1)."""
    images: tuple[float | None, ...]
    """mIoU in [0, 1] of the images that are kept; None where a class of the whole is labelled in none of them."""
    pixels: tuple[float | None, ...]
    """mIoU of the pixels that are kept, likewise."""


class RiskCoverage:
    """Counts of correct, predicted and labelled pixels per class, by image and by share of pixels dropped."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._uncertainty: list[float] = []
        self._images: list[np.ndarray] = []
        self._pixels_S3N = np.zeros((len(SHARES), 3, num_classes), dtype=np.int64)

    def update(self, predicted_BHW: np.ndarray, label_BHW: np.ndarray, divergence_BHW: np.ndarray) -> None:
        """Count a batch of class indices; pixels labelled 255 are left out, images without another label altogether."""
        for predicted_HW, label_HW, divergence_HW in zip(predicted_BHW, label_BHW, divergence_BHW, strict=True):
            if (label_HW == IGNORE).all():
                continue
            counts_S3N = self._counts(predicted_HW, label_HW, divergence_HW)
            self._uncertainty.append(float(image_score(divergence_HW[None])[0]))
            self._images.append(counts_S3N[0])
            self._pixels_S3N += counts_S3N

    def _counts(self, predicted_HW: np.ndarray, label_HW: np.ndarray, divergence_HW: np.ndarray) -> np.ndarray:
        # A pixel is counted once, at the largest share that still keeps it, and then summed over the smaller ones.
        thresholds = [pixel_threshold(divergence_HW, ignore_share=share) for share in reversed(SHARES)]
        labelled_HW = label_HW != IGNORE
        level_P = np.searchsorted(thresholds, divergence_HW[labelled_HW])
        predicted_P, label_P = predicted_HW[labelled_HW], label_HW[labelled_HW]
        correct_P = predicted_P == label_P
        kinds = ((level_P[correct_P], label_P[correct_P]), (level_P, predicted_P), (level_P, label_P))
        counts_3SN = np.stack([self._histogram(*kind) for kind in kinds])
        return counts_3SN.cumsum(axis=1)[:, ::-1].transpose(1, 0, 2)

    def _histogram(self, level_P: np.ndarray, class_P: np.ndarray) -> np.ndarray:
        codes_P = level_P.astype(np.int64) * self.num_classes + class_P
        size = len(SHARES) * self.num_classes
        return np.bincount(codes_P, minlength=size).reshape(len(SHARES), self.num_classes)

    def merge(self, other: "RiskCoverage") -> None:
        """Count what another one has counted, too."""
        self._uncertainty += other._uncertainty
        self._images += other._images
        self._pixels_S3N += other._pixels_S3N

    def curve(self) -> FilterCurve | None:
        """The curves of all that was counted; None with nothing."""
        if not self._images:
            return None
        images_B3N = np.stack(self._images)
        kept = [keep_most_certain(self._uncertainty, drop_share=share) for share in SHARES]
        by_image = [images_B3N[keep_B].sum(axis=0) for keep_B in kept]
        whole_3N = self._pixels_S3N[0]
        return FilterCurve(
            num_images=len(images_B3N),
            shares=SHARES,
            images=tuple(_miou(counts_3N, whole_3N) for counts_3N in by_image),
            pixels=tuple(_miou(counts_3N, whole_3N) for counts_3N in self._pixels_S3N),
        )


def _miou(counts_3N: np.ndarray, whole_3N: np.ndarray) -> float | None:
    """Mean IoU as `ConfusionMatrix.miou` has it; with fewer classes than the whole it would be another score."""
    correct_N, predicted_N, labelled_N = counts_3N.astype(np.float64)
    if (labelled_N[whole_3N[2] > 0] == 0).any():
        return None
    union_N = predicted_N + labelled_N - correct_N
    return float((correct_N[union_N > 0] / union_N[union_N > 0]).mean())
