"""Which labelled images are worth learning from, and how often each is drawn. Pure numpy.

Axes: K members, B batch, C channel, H, W. Divergences are in nats.
"""

from collections.abc import Sequence

import numpy as np


def js_divergence(members_KBCHW: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence of the members per pixel, BHW >= 0: H(mean) - mean(H) (method.md 4.2)."""
    together_BHW = _entropy(members_KBCHW.mean(axis=0), axis=1)
    alone_BHW = _entropy(members_KBCHW, axis=2).mean(axis=0)
    divergence_BHW: np.ndarray = np.maximum(0.0, together_BHW - alone_BHW)
    return divergence_BHW


def image_score(divergence_BHW: np.ndarray, *, share: float = 0.1) -> np.ndarray:
    """Uncertainty of an image: the mean of its most uncertain `share` of pixels, (B,)."""
    flat = np.sort(divergence_BHW.reshape(len(divergence_BHW), -1), axis=1)
    count = max(1, round(flat.shape[1] * share))
    score_B: np.ndarray = flat[:, -count:].mean(axis=1)
    return score_B


def keep_most_certain(uncertainty_B: Sequence[float] | np.ndarray, *, drop_share: float) -> np.ndarray:
    """True for images that stay: exactly the `drop_share` most uncertain are dropped, and never all of them.

    (The published code of three projects slices this wrongly: it also drops the thirty most certain; method.md 4.2.)
    """
    scores = np.asarray(uncertainty_B, dtype=np.float64)
    keep = np.ones(len(scores), dtype=bool)
    dropped = min(int(len(scores) * drop_share), max(0, len(scores) - 1))
    if dropped:
        keep[np.argsort(scores, kind="stable")[-dropped:]] = False
    return keep


def pixel_threshold(divergence_BHW: np.ndarray, *, ignore_share: float) -> float:
    """Divergence above which a pixel is ignored so that `ignore_share` of all pixels are; infinity for none."""
    return float(np.quantile(divergence_BHW, 1.0 - ignore_share)) if ignore_share > 0 else float("inf")


def sampling_weights(class_pixels_BN: Sequence[Sequence[float]] | np.ndarray, *, power: float = 0.5) -> np.ndarray:
    """How often each image is drawn, mean 1: images with rare classes more often.

    An image's weight is the sum over classes of its share of that class's pixels in the whole dataset, divided by the
    class's frequency to `1 - power`: 0 draws evenly, 1 gives every class the same weight.
    """
    pixels_BN = np.asarray(class_pixels_BN)
    if pixels_BN.size == 0:
        return np.ones(len(pixels_BN))
    pixels_N = pixels_BN.sum(axis=0, dtype=np.float64)
    frequency_N = pixels_N / max(1.0, pixels_N.sum())
    per_class_N = np.where(frequency_N > 0, np.maximum(frequency_N, 1e-4) ** -power, 0.0)
    # Sums over classes, so that no copy of B x N is made: B may be a million.
    weights: np.ndarray = np.einsum("bn,n->b", pixels_BN, per_class_N)
    weights /= np.maximum(pixels_BN.sum(axis=1, dtype=np.float64), 1.0)
    return weights / weights.mean() if weights.sum() > 0 else np.ones(len(pixels_BN))


def _entropy(probabilities: np.ndarray, *, axis: int) -> np.ndarray:
    entropy: np.ndarray = -(probabilities * np.log(np.clip(probabilities, 1e-9, 1.0))).sum(axis=axis)
    return entropy
