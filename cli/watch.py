"""Follow a job to its end: one live bar per kind of step, with rate and ETA."""

import time
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from cli.client import Client, CliError, Json
from cli.output import notices

TERMINAL = {"succeeded", "failed", "cancelled"}
#: What each step does, in the words of the person who waits for it.
TITLES = {
    "train_generator": "train the generator",
    "fit_head": "fit the head",
    "label_shard": "sample and label",
    "seal_dataset": "seal the dataset",
    "export_dataset": "write the COCO zip",
    "distil": "distil the student",
    "train_baseline": "train the baseline",
    "train_student": "train the student",
    "evaluate": "evaluate",
}


class EtaColumn(ProgressColumn):
    """Seconds left as the worker estimates them, or seconds taken once done."""

    def render(self, task: Task) -> Text:
        """One cell of the bar's line."""
        if task.fields["state"] == "succeeded":
            return Text(f"{task.fields['seconds']:6.1f} s", style="green")
        eta = task.fields["eta"]
        return Text("" if eta is None else f"ETA {int(eta) // 60}:{int(eta) % 60:02d}", style="cyan")


def watch(client: Client, job_id: str, *, poll_seconds: float = 0.5) -> Json:
    """Show progress until the job succeeds and return it; raises `CliError` when it fails or is cancelled."""
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f}%"),
        EtaColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=notices, refresh_per_second=4) as bars:
        lines: dict[str, TaskID] = {}
        told: set[str] = set()
        while True:
            job = client.get(f"/v1/jobs/{job_id}")
            steps = client.items(f"/v1/jobs/{job_id}/steps")
            _draw(bars, lines, steps)
            if not notices.is_terminal:
                _tell_finished(steps, told)
            if job["state"] in TERMINAL:
                break
            time.sleep(poll_seconds)
    if job["state"] == "failed":
        error = job.get("error") or {}
        reason = str(error.get("detail") or error.get("title") or "no reason recorded")
        raise CliError(f"job {job_id} failed: {reason.removesuffix('.')}; {_again(job_id)}")
    if job["state"] == "cancelled":
        raise CliError(f"job {job_id} was cancelled; {_again(job_id)}")
    return job


def _again(job_id: str) -> str:
    return f"`label-factory jobs retry {job_id}` goes on where it stopped"


def _draw(bars: Progress, lines: dict[str, TaskID], steps: list[Json]) -> None:
    by_kind: dict[str, list[Json]] = {}
    for step in steps:
        by_kind.setdefault(step["kind"], []).append(step)
    for kind, group in by_kind.items():
        if kind not in lines:
            title = TITLES.get(kind, kind)
            lines[kind] = bars.add_task(title, total=1.0, state="ready", eta=None, seconds=0.0, note="")
        bars.update(lines[kind], **_line(group))


def _tell_finished(steps: list[Json], told: set[str]) -> None:
    """Where no bar can be drawn (a pipe, a log), one line for each step that ended."""
    for step in steps:
        if step["state"] in TERMINAL and step["id"] not in told:
            told.add(step["id"])
            title = f"{TITLES.get(step['kind'], step['kind'])} #{step['index']}"
            notices.print(f"{step['state']}  {title}  {step.get('seconds') or 0.0:.1f} s", markup=False)


def _line(group: list[Json]) -> dict[str, Any]:
    """Roll the steps of one kind up into one bar."""
    shares = [_share(step) for step in group]
    running = [step for step in group if step["state"] == "running"]
    progress = (running[0].get("progress") or {}) if running else {}
    finished = sum(step["state"] == "succeeded" for step in group)
    eta = progress.get("eta_seconds")
    if eta is not None and len(group) > 1:
        eta = eta * (1 + sum(step["state"] == "ready" for step in group) / max(len(running), 1))
    return {
        "completed": sum(shares) / len(shares),
        "state": "succeeded" if finished == len(group) else "running",
        "eta": eta,
        "seconds": sum(step.get("seconds") or 0.0 for step in group),
        "note": _note(group, finished, progress),
    }


def _share(step: Json) -> float:
    if step["state"] == "succeeded":
        return 1.0
    progress = step.get("progress") or {}
    return float(progress.get("done") or 0) / max(float(progress.get("total") or 0), 1.0)


def _note(group: list[Json], finished: int, progress: Json) -> str:
    parts = [f"{finished}/{len(group)} shards"] if len(group) > 1 else []
    if progress.get("rate"):
        parts.append(f"{progress['rate']:.1f} {progress.get('unit') or 'it'}/s")
    metrics = progress.get("metrics") or {}
    parts += [f"{name} {value:.3g}" for name, value in list(metrics.items())[:3] if isinstance(value, int | float)]
    if attempts := max(step.get("attempt") or 0 for step in group) - 1:
        parts.append(f"retried {attempts}x" if attempts > 0 else "")
    return "  ".join(part for part in parts if part)
