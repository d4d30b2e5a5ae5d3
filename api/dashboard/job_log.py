"""The log of a job in words, and its curves, both from its events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from api.dashboard.formatting import title
from service.tables import Event

#: Steps that learn: their metrics make curves. Shards come by the hundred and only count.
CURVE_KINDS = ("train_generator", "fit_head", "distil", "train_baseline")
#: Metrics that say nothing as a curve.
DULL = frozenset({"epoch", "step", "seconds", "fold", "folds", "num_parameters"})


@dataclass(frozen=True)
class LogLine:
    """One event in words."""

    at: datetime
    subject: str
    words: str
    bad: bool = False


def log_lines(events: Iterable[Event]) -> list[LogLine]:
    """States and messages; progress and pictures are shown elsewhere."""
    return [line for event in events if (line := _line(event)) is not None]


def _line(event: Event) -> LogLine | None:
    data = event.data
    if event.type == "job.state":
        return LogLine(event.created_at, "Job", _state_words(data), data.get("state") == "failed")
    if event.type == "step.state":
        return LogLine(event.created_at, _subject(data), _state_words(data), data.get("state") == "failed")
    if event.type == "log":
        bad = data.get("level") == "error"
        return LogLine(event.created_at, _subject(data) or "Worker", str(data.get("message", "")), bad)
    return None


def _subject(data: dict[str, Any]) -> str:
    kind = str(data.get("kind") or "")
    if kind == "label_shard" and isinstance(data.get("index"), int):
        return f"Shard {data['index'] + 1}"
    return title(kind) if kind else ""


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
        for metric, value in _numbers(event.data.get("metrics")):
            _extend(found.setdefault((kind, metric), _empty_curve(kind, metric, event.data)), done, value)
    return [curve for curve in found.values() if len(curve["x"]) > 1]


def _extend(curve: dict[str, Any], done: int, value: float) -> None:
    """Add a point; curves.js goes on by the same rule."""
    if done < curve["last"] / 2:  # another phase; a smaller step back is a checkpoint resumed, whose points are known
        curve["offset"] += curve["last"]
        curve["last"] = 0
    if done > curve["last"]:
        curve["last"] = done
        curve["x"].append(curve["offset"] + done)
        curve["y"].append(value)


def _empty_curve(kind: str, metric: str, data: dict[str, Any]) -> dict[str, Any]:
    name = metric.replace("_", " ")
    unit = str(data.get("unit") or "steps")
    head = {"step": kind, "metric": metric, "title": f"{title(kind)}: {name}", "unit": unit}
    return {**head, "offset": 0, "last": 0, "x": [], "y": []}


def _numbers(metrics: Any) -> list[tuple[str, float]]:
    if not isinstance(metrics, dict):
        return []
    return [(str(k), v) for k, v in metrics.items() if isinstance(v, int | float) and k not in DULL]
