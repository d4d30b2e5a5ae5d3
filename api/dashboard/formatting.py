"""How numbers, times and names read on a page: the filters of the templates."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from service.generator_families import GENERATOR_FAMILIES

STEP_TITLES = {
    "fit_head": "Fit the head",
    "label_shard": "Label images",
    "seal_dataset": "Seal the dataset",
    "export_dataset": "Export as COCO",
    "distil": "Distil the student",
    "train_baseline": "Train the few-label baseline",
    "evaluate": "Evaluate on held-out labels",
    "train_generator": "Train the generator",
    "train_student": "Train the student",
}
JOB_TITLES = {
    "label": "Label",
    "train_generator": "Train a generator",
    "train_student": "Train a student",
    "distill": "Distil",
    "evaluate": "Evaluate",
    "export": "Export",
}
FAMILY_TITLES = {name: family.title for name, family in GENERATOR_FAMILIES.items()}
TITLES = STEP_TITLES | FAMILY_TITLES

METRICS = {
    "miou": "mIoU",
    "student_miou": "student's mIoU",
    "head_miou": "head's mIoU",
    "baseline_miou": "few labels' mIoU",
    "iou": "IoU",
    "ap": "AP",
    "ap50": "AP50",
    "box_ap": "box AP",
    "kl": "KL",
    "ema_loss": "loss of the average",
    "train_loss": "loss on training images",
    "holdout_loss": "loss on held-out images",
    "kernel_distance": "distance to held-out images",
    "nearest_ratio": "nearest distance, real = 1",
    "copied_share": "share of copies",
}

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
COLOR = re.compile(r"#[0-9a-fA-F]{6}")
#: Metrics where more is better keep three decimals; a learning rate would read 0.000.
SMALL = 1e-3


def title(kind: str) -> str:
    """The words for a kind of step or generator; an unknown kind reads as itself."""
    return TITLES.get(kind, kind.replace("_", " ").capitalize())


def job_title(kind: str) -> str:
    """The words for a kind of job."""
    return JOB_TITLES.get(kind, kind)


def metric(name: str) -> str:
    """The words for a metric; an unknown one reads as itself."""
    return METRICS.get(name, name.replace("_", " "))


def count(value: float | None) -> str:
    """1234567 reads 1 234 567 with thin spaces."""
    return "–" if value is None else f"{round(value):,}".replace(",", "\u202f")


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return "–"
    power = min(int(math.log10(max(value, 1)) / 3), len(UNITS) - 1)
    scaled = value / 1000**power
    return f"{scaled:.0f} {UNITS[power]}" if power == 0 or scaled >= 100 else f"{scaled:.1f} {UNITS[power]}"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def number(value: Any) -> str:
    """A measurement: three decimals, or as many digits as a small number needs."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if isinstance(value, int):
        return count(value)
    if not math.isfinite(value):
        return "–"
    if value and abs(value) < SMALL:
        return f"{value:.1e}"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}".replace(",", "\u202f")


def percent(share: float | None) -> str:
    """A share of one."""
    if share is None:
        return "–"
    return f"{100 * share:.1f} %" if 0 < share < 0.1 else f"{100 * share:.0f} %"


def aware(moment: datetime) -> datetime:
    """SQLite hands times back without their zone; they are UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ago(moment: datetime | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> Markup:
    """A `<time>` that reads as a distance and carries the exact moment."""
    if moment is None:
        return Markup("–")
    moment = aware(moment)
    seconds = (now() - moment).total_seconds()
    stamp = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    tooltip = moment.strftime("%Y-%m-%d %H:%M:%S UTC")
    markup = Markup('<time datetime="{}" title="{}" class="nowrap">{}</time>')
    return markup.format(stamp, tooltip, _distance(seconds, moment))


def _distance(seconds: float, moment: datetime) -> str:
    if seconds < 45:
        return "just now"
    if seconds < 5400:
        return f"{round(seconds / 60)} min ago"
    if seconds < 129_600:
        return f"{round(seconds / 3600)} h ago"
    return f"{round(seconds / 86_400)} d ago" if seconds < 14 * 86_400 else moment.strftime("%Y-%m-%d")


def until(moment: datetime) -> str:
    """How long until then: now, or in so long."""
    seconds = aware(moment).timestamp() - datetime.now(UTC).timestamp()
    return "now" if seconds < 1 else f"in {duration(seconds)}"


def clock(moment: datetime) -> Markup:
    """The time of day of an event."""
    moment = aware(moment)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%H:%M:%S")
    )


def day_and_time(moment: datetime) -> Markup:
    """A point in time, to the minute."""
    moment = aware(moment)
    return Markup('<time datetime="{}" class="nowrap">{}</time>').format(
        moment.strftime("%Y-%m-%dT%H:%M:%SZ"), moment.strftime("%Y-%m-%d %H:%M UTC")
    )


def elapsed(started: datetime | None, finished: datetime | None) -> float | None:
    """Seconds from start to end, or to now while it runs."""
    if started is None:
        return None
    return (aware(finished) if finished else datetime.now(UTC)).timestamp() - aware(started).timestamp()


def color(value: Any) -> str:
    """A class colour, or grey for anything that is not one."""
    return value if isinstance(value, str) and COLOR.fullmatch(value) else "#808080"


def swatch(value: Any) -> Markup:
    """A square of a class's colour; a presentation attribute, so no style is needed."""
    square = '<svg class="swatch" viewBox="0 0 13 13" aria-hidden="true"><rect width="13" height="13" fill="{}"/></svg>'
    return Markup(square).format(escape(color(value)))


def hundredths(share: float | None) -> str:
    """A share of one as a bare whole number of percent; a trace is a dot, nothing is empty."""
    if not share:
        return ""
    return "·" if share < 0.005 else str(round(100 * share))


def heat(share: float | None) -> str:
    """The CSS class of a confusion cell, h0 to h10."""
    return f"h{min(10, max(0, round(10 * (share or 0))))}"


FILTERS: dict[str, Callable[..., Any]] = {
    "title_of": title,
    "job_title": job_title,
    "metric": metric,
    "count": count,
    "size": size,
    "duration": duration,
    "number": number,
    "percent": percent,
    "ago": ago,
    "until": until,
    "clock": clock,
    "day_and_time": day_and_time,
    "color": color,
    "swatch": swatch,
    "heat": heat,
    "hundredths": hundredths,
}
