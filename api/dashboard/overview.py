"""The first page: what runs, what waits, what there is, and where to begin."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from api.dashboard.page import PageRoute, page
from api.dashboard.step_bars import step_bars
from api.dependencies import FactoryDep, ReadDep
from service import generators, jobs, overview, steps, usage, workers
from service.doorbell import QUEUES
from service.tables import Job, Step, Worker

TILES = (
    ("jobs", "/jobs", "jobs"),
    ("generators", "/generators", "generators"),
    ("annotation_sets", "/annotation-sets", "annotation sets"),
    ("datasets", "/datasets", "datasets"),
    ("images", "/datasets", "labelled images"),
    ("students", "/students", "students"),
)
STORED = (
    ("image_pools", None, "Image pools"),
    ("annotation_sets", "/annotation-sets", "Annotation sets"),
    ("generators", "/generators", "Generators"),
    ("datasets", "/datasets", "Datasets"),
    ("exports", "/datasets", "Their exports"),
    ("students", "/students", "Students"),
)
NUM_JOBS = 8
NUM_GENERATORS = 4
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/")
def overview_page(request: Request, work: ReadDep, factory: FactoryDep) -> HTMLResponse:
    """The factory at a glance."""
    totals = overview.totals(work)
    counts = steps.counts(work)
    alive = workers.alive(work)
    used = usage.read(work)
    newest = generators.list_page(work, limit=NUM_GENERATORS).items
    return page(
        request,
        "overview.html",
        section="overview",
        tiles=[_tile(totals[noun], url, words) for noun, url, words in TILES],
        fresh=not totals["jobs"],
        running=_running(overview.running_jobs(work)),
        queued=sum(number for (_, state), number in counts.items() if state == "ready"),
        queues=[_queue(name, counts, alive) for name in QUEUES],
        devices=_devices(alive),
        disk=overview.disk(factory.settings),
        stored=_stored(used),
        key=used.key,
        jobs=jobs.list_page(work, limit=NUM_JOBS).items,
        generators=newest,
        sheets=generators.with_sheets(work, newest),
    )


def _tile(number: int, url: str, words: str) -> dict[str, Any]:
    return {"number": number, "url": url, "words": words.removesuffix("s") if number == 1 else words}


def _running(found: list[tuple[Job, list[Step]]]) -> list[dict[str, Any]]:
    """One bar per job and kind of step that runs now."""
    return [{"job": job, "bar": bar} for job, its_steps in found for bar in step_bars(its_steps, ())]


def _queue(name: str, counts: dict[tuple[str, str], int], alive: Sequence[Worker]) -> dict[str, Any]:
    number = sum(name in worker.queues for worker in alive)
    steps_in = {state: counts.get((name, state), 0) for state in ("ready", "running")}
    return {"name": name, "workers": number, **steps_in, "unheard": bool(steps_in["ready"]) and not number}


def _devices(alive: Sequence[Worker]) -> list[Worker]:
    """One of the workers of each device; they see the same memory."""
    return list({(worker.machine, worker.device): worker for worker in alive}.values())


def _stored(found: usage.Usage) -> dict[str, Any]:
    """Bytes of each noun, as shares of the largest."""
    most = max(found.num_bytes.values()) or 1
    rows = [
        {"words": words, "url": url, "num_bytes": found.num_bytes[noun], "share": found.num_bytes[noun] / most}
        for noun, url, words in STORED
    ]
    used = None if found.max_bytes is None else min(found.total_bytes / found.max_bytes, 1.0)
    return {"rows": rows, "total": found.total_bytes, "limit": found.max_bytes, "used": used}
