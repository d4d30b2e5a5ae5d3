"""Expected calibration error of the most probable class, streamed. Axes: B batch, N classes, H, W."""

import torch

from models.contracts import IGNORE


class CalibrationError:
    """Gap between confidence and accuracy over equal-width confidence bins (Guo et al., ICML 2017)."""

    def __init__(self, *, num_bins: int = 15) -> None:
        self.num_bins = num_bins
        self.count = torch.zeros(num_bins, dtype=torch.float64)
        self.confidence = torch.zeros(num_bins, dtype=torch.float64)
        self.correct = torch.zeros(num_bins, dtype=torch.float64)

    def update(self, probabilities_BNHW: torch.Tensor, label_BHW: torch.Tensor) -> None:
        """Count a batch of class probabilities; pixels labelled 255 are left out."""
        valid = label_BHW != IGNORE
        confidence_BHW, predicted_BHW = probabilities_BNHW.max(dim=1)
        confidence = confidence_BHW[valid].double().cpu()
        correct = (predicted_BHW == label_BHW)[valid].double().cpu()
        bins = (confidence * self.num_bins).long().clamp(0, self.num_bins - 1)
        self.count += torch.bincount(bins, minlength=self.num_bins)
        self.confidence += torch.bincount(bins, weights=confidence, minlength=self.num_bins)
        self.correct += torch.bincount(bins, weights=correct, minlength=self.num_bins)

    def error(self) -> float:
        """Expected calibration error in [0, 1]; nan before any pixel."""
        total = float(self.count.sum())
        return float((self.confidence - self.correct).abs().sum()) / total if total else float("nan")
