"""The log of a job in words, and its curves, both from its events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from api.dashboard.formatting import metric as metric_words
from api.dashboard.formatting import title
from service.tables import Event, Step

#: Steps that learn: their metrics make curves. Shards come by the hundred and only count.
CURVE_KINDS = ("train_generator", "fit_head", "distil", "train_baseline", "train_student")
#: Metrics that say nothing as a curve.
DULL = frozenset({"epoch", "step", "seconds", "fold", "folds", "num_parameters", "look_step", "copied_share_of_real"})
#: Metrics that are measured now and then and reported until the next time: their points stand at `look_step`.
LOOKED = frozenset({"train_loss", "holdout_loss", "kernel_distance", "nearest_ratio", "copied_share"})
TONES: dict[str, Literal["warn", "bad"]] = {"warning": "warn", "error": "bad"}


@dataclass(frozen=True)
class LogLine:
    """One event in words."""

    at: datetime
    subject: str
    words: str
    tone: Literal["", "warn", "bad"] = ""


def log_lines(events: Iterable[Event], steps: Iterable[Step]) -> list[LogLine]:
    """States and messages, each with the step it is about; progress and pictures are shown elsewhere."""
    subjects = {step.id: _subject(step) for step in steps}
    lines = (_line(event, subjects.get(event.step_id or "", "Job")) for event in events)
    return [line for line in lines if line is not None]


def _line(event: Event, subject: str) -> LogLine | None:
    data = event.data
    if event.type in ("job.state", "step.state"):
        return LogLine(event.created_at, subject, _state_words(data), "bad" if data.get("state") == "failed" else "")
    if event.type == "log":
        return LogLine(event.created_at, subject, str(data.get("message", "")), TONES.get(str(data.get("level")), ""))
    return None


def _subject(step: Step) -> str:
    return f"Shard {step.index + 1}" if step.kind == "label_shard" else title(step.kind)


def _state_words(data: dict[str, Any]) -> str:
    words = str(data.get("state", ""))
    attempt = data.get("attempt")
    if isinstance(attempt, int) and attempt > 1:
        words += f", attempt {attempt}"
    error = data.get("error")
    if isinstance(error, dict) and (reason := error.get("detail") or error.get("title")):
        words += f": {reason}"
    return words


def curves(events: Sequence[Event]) -> list[dict[str, Any]]:
    """One curve per step kind and metric; a step that counts from the start again goes on to the right."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for event in events:
        kind = str(event.data.get("kind") or "")
        done = event.data.get("done")
        if kind not in CURVE_KINDS or not isinstance(done, int):
            continue
        metrics = event.data.get("metrics") or {}
        for metric, value in _numbers(metrics):
            place = metrics.get("look_step", done) if metric in LOOKED else done
            _extend(found.setdefault((kind, metric), _empty_curve(kind, metric, event.data)), place, value)
    return [curve for curve in found.values() if len(curve["x"]) > 1]


def _extend(curve: dict[str, Any], done: float, value: float) -> None:
    """Add a point; curves.js goes on by the same rule."""
    if done < curve["last"] / 2:  # another phase; a smaller step back is a checkpoint resumed, whose points are known
        curve["offset"] += curve["last"]
        curve["last"] = 0
    if done > curve["last"]:
        curve["last"] = done
        curve["x"].append(curve["offset"] + done)
        curve["y"].append(value)


def _empty_curve(kind: str, metric: str, data: dict[str, Any]) -> dict[str, Any]:
    unit = str(data.get("unit") or "steps")
    head = {
        "step": kind,
        "metric": metric,
        "title": f"{title(kind)}: {metric_words(metric)}",
        "words": metric_words(metric),
        "unit": unit,
    }
    return {**head, "offset": 0, "last": 0, "x": [], "y": []}


def _numbers(metrics: Any) -> list[tuple[str, float]]:
    if not isinstance(metrics, dict):
        return []
    return [(str(k), v) for k, v in metrics.items() if isinstance(v, int | float) and k not in DULL]
