"""Steps as a person reads them: one bar per kind, shards rolled up, with rate, time left and attempts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from api.dashboard.formatting import count, title
from api.dashboard.job_log import DULL
from service.tables import Step

#: Rather a few telling metrics than a wall of them.
MAX_METRICS = 6
#: Shards beyond this many are told by the count alone.
MAX_CELLS = 240


@dataclass(frozen=True)
class StepBar:
    """All steps of one kind."""

    kind: str
    title: str
    state: str
    """A step's state, or `waiting` for a kind whose turn has not come."""
    share: float = 0.0
    """Done, 0 to 1, over all steps of the kind."""
    cells: list[str] = field(default_factory=list)
    """State of each step where there are several."""
    finished: int = 0
    num_steps: int = 0
    note: str = ""
    """`1 234 of 2 000 images`, as far as the running step says."""
    rate: str = ""
    eta_seconds: float | None = None
    seconds: float | None = None
    attempts: int = 0
    """Most attempts of any step of the kind."""
    peak_memory_bytes: int | None = None
    message: str = ""
    metrics: list[tuple[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None


def step_bars(steps: Sequence[Step], planned: Sequence[str]) -> list[StepBar]:
    """One bar per planned kind in order, then kinds outside the plan."""
    groups: dict[str, list[Step]] = {kind: [] for kind in planned}
    for step in steps:
        groups.setdefault(step.kind, []).append(step)
    return [_bar(kind, group) if group else StepBar(kind, title(kind), "waiting") for kind, group in groups.items()]


def _bar(kind: str, group: list[Step]) -> StepBar:
    running = [step for step in group if step.state == "running"]
    progress = (max(running or group, key=lambda step: step.index).progress or {}) if group else {}
    state = _state([step.state for step in group])
    shares = [_share(step) for step in group]
    rates = [float((step.progress or {}).get("rate") or 0) for step in running]
    unit = str(progress.get("unit") or ("images" if kind == "label_shard" else "steps"))
    return StepBar(
        kind=kind,
        title=title(kind),
        state=state,
        share=sum(shares) / len(shares),
        cells=[step.state for step in group] if 1 < len(group) <= MAX_CELLS else [],
        finished=sum(step.state == "succeeded" for step in group),
        num_steps=len(group),
        note=_note(group, unit),
        rate=f"{sum(rates):.1f} {unit}/s" if sum(rates) else "",
        eta_seconds=_eta(group, running) if state == "running" else None,
        seconds=sum(step.seconds or 0.0 for step in group) or None,
        attempts=max(step.attempt for step in group),
        peak_memory_bytes=max((step.peak_memory_bytes or 0 for step in group), default=0) or None,
        message=str(progress.get("message") or "") if state == "running" else "",
        metrics=_metrics(progress.get("metrics")),
        error=next((step.error for step in group if step.error and step.state != "succeeded"), None),
    )


def _state(states: list[str]) -> str:
    if len(set(states)) == 1:
        return states[0]
    for state in ("failed", "cancelled", "running"):
        if state in states:
            return state
    return "running" if "succeeded" in states else "ready"


def _share(step: Step) -> float:
    if step.state == "succeeded":
        return 1.0
    progress = step.progress or {}
    return min(1.0, float(progress.get("done") or 0) / max(float(progress.get("total") or 0), 1.0))


def _note(group: list[Step], unit: str) -> str:
    """`85 of 128 images` over all steps of the kind; nothing where no step knows its size."""
    totals = [_total(step) for step in group]
    if not all(totals):
        return ""
    done = sum(round(_share(step) * total) for step, total in zip(group, totals, strict=True))
    return f"{count(done)} of {count(sum(totals))} {unit}"


def _total(step: Step) -> int:
    """Units of a step: as it reports them, or as the plan gave them to a shard."""
    return int((step.progress or {}).get("total") or step.params.get("count") or 0)


def _eta(group: list[Step], running: list[Step]) -> float | None:
    known = [float(eta) for step in running if (eta := (step.progress or {}).get("eta_seconds")) is not None]
    if not known:
        return None
    waiting = sum(step.state == "ready" for step in group)
    return max(known) * (1 + waiting / len(running))


def _metrics(metrics: Any) -> list[tuple[str, Any]]:
    if not isinstance(metrics, dict):
        return []
    numbers = [(str(name), value) for name, value in metrics.items() if isinstance(value, int | float)]
    return [(name, value) for name, value in numbers if name not in DULL][:MAX_METRICS]
