"""How good a labeller probably is, where nothing was held out: two quick fits, each measured on what it did not see."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from models.contracts import ClassSpec, FeatureSource, Progress, Stop
from models.examples import Example
from models.heads.cross_validation import folds
from models.heads.ensemble import fit_labeller
from models.heads.kinds import HeadKind
from models.labelling import LabellerPredictor
from models.metrics.evaluation import EvaluationResult, evaluate
from models.metrics.risk_coverage import RiskCoverage

NUM_FOLDS = 2
STEPS_SHARE = 0.18
"""Steps of each quick fit as a share of the whole fit's: both together, with their measuring, cost under 40 % of it."""


def estimate(
    kind: HeadKind,
    sources: Sequence[FeatureSource],
    examples: Sequence[Example],
    classes: Sequence[ClassSpec],
    config: Any,
    *,
    device: torch.device,
    progress: Progress | None = None,
    stop: Stop | None = None,
) -> dict[str, Any] | None:
    """`{miou, folds, num_folds, steps_share, filter_curve}`, JSON-ready; None where it cannot be said (one example, no
    labelled pixel).

    It errs on the low side: each fit sees half of the labels for a fifth of the steps. `config` is the kind's own.
    """
    quick = replace(config, steps=max(1, round(config.steps * STEPS_SHARE)))
    parts = folds(examples, NUM_FOLDS)
    results = []
    for index, (fitted_on, held_out) in enumerate(parts):
        part = None if progress is None else _part(progress, index, len(parts))
        fitted = fit_labeller(kind, sources, fitted_on, classes, quick, device=device, progress=part, stop=stop)
        results.append(evaluate(LabellerPredictor(fitted.labeller), held_out, classes, stop=stop))
    scores = [result.miou for result in results]
    known = [score for score in scores if score is not None]
    if not known:
        return None
    return {
        "miou": sum(known) / len(known),
        "folds": scores,
        "num_folds": NUM_FOLDS,
        "steps_share": STEPS_SHARE,
        "filter_curve": _filter_curve(results, len(classes)),
    }


def _filter_curve(results: Sequence[EvaluationResult], num_classes: int) -> dict[str, Any] | None:
    """What dropping the uncertain is worth, over the images of all folds."""
    together = RiskCoverage(num_classes)
    for result in results:
        if result.risk is not None:
            together.merge(result.risk)
    curve = together.curve()
    return None if curve is None else asdict(curve)


def _part(progress: Progress, index: int, count: int) -> Progress:
    """Progress of one quick fit as its part of all; its losses are left out, they are not those of the head."""

    def report(done: int, total: int, _metrics: Mapping[str, float]) -> None:
        progress(index * total + done, count * total, {})

    return report
