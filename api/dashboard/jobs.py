"""Pages of jobs: the list, one job and what of it changes while it runs, and its two verbs."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from api.dashboard.downloads import of_job
from api.dashboard.formatting import JOB_TITLES, METRICS, STEP_TITLES
from api.dashboard.job_log import CURVE_KINDS, DULL, LOOKED, curves, log_lines
from api.dashboard.job_summary import advice, summary
from api.dashboard.page import PageRoute, page, query
from api.dashboard.step_bars import step_bars
from api.dependencies import IdPath, ReadDep, WorkDep
from api.pagination import PagingDep, encode_cursor
from service import datasets, events, jobs, steps
from service.plan import known_stages
from service.tables import Dataset, DatasetImage, Job
from service.unit_of_work import Work

STATES = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")
State = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
Kind = Literal["label", "train_generator", "train_student", "distill", "evaluate", "export"]
ACTIVE = frozenset({"queued", "running", "cancelling"})
LOG_TYPES: tuple[events.EventType, ...] = ("job.state", "step.state", "log")
NUM_LOG_LINES = 120
NUM_SAMPLES = 16
NUM_SHEETS = 4
MAX_POINTS = 1500
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/jobs")
def job_list(
    request: Request,
    work: ReadDep,
    paging: PagingDep,
    state: Annotated[State | Literal[""], Query()] = "",
    kind: Annotated[Kind | Literal[""], Query()] = "",
) -> HTMLResponse:
    """Jobs, newest first, by state and kind."""
    rows = jobs.list_page(work, state=state or None, kind=kind or None, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    following = f"/jobs{query(state=state, kind=kind, cursor=cursor)}" if cursor else None
    return page(
        request,
        "jobs.html",
        section="jobs",
        jobs=rows.items,
        state=state,
        kind=kind,
        states=STATES,
        kinds=JOB_TITLES,
        first_page=paging.after is None,
        next_url=following,
    )


@router.get("/jobs/{job_id}")
def job_page(request: Request, work: ReadDep, job_id: IdPath) -> HTMLResponse:
    """One job."""
    job = jobs.get(work, job_id)
    newest = events.newest(work, job_id, limit=1)
    return page(
        request,
        "job.html",
        section="jobs",
        title=job.name,
        last_event_id=newest[0].id if newest else 0,
        **_live(work, job),
    )


@router.get("/jobs/{job_id}/live")
def job_live(request: Request, work: ReadDep, job_id: IdPath) -> HTMLResponse:
    """The part of the page that changes, for htmx to swap in."""
    return page(request, "_live.html", **_live(work, jobs.get(work, job_id)))


@router.get("/jobs/{job_id}/curves.json")
def job_curves(work: ReadDep, job_id: IdPath) -> JSONResponse:
    """Metrics over progress, thinned to what a chart can show."""
    learning = [kind for kind in known_stages(jobs.get(work, job_id).spec) if kind in CURVE_KINDS]
    found = events.progress(work, job_id, kinds=CURVE_KINDS, limit=MAX_POINTS)
    titles = {kind: STEP_TITLES[kind] for kind in CURVE_KINDS}
    content = {
        "curves": curves(found),
        "titles": titles,
        "metrics": METRICS,
        "dull": sorted(DULL),
        "looked": sorted(LOOKED),
        "alone": len(learning) == 1,
    }
    return JSONResponse(content, headers={"Cache-Control": "no-store"})


@router.post("/jobs/{job_id}/cancel")
def cancel_job(work: WorkDep, job_id: IdPath) -> Response:
    """Cancel and show the job."""
    jobs.cancel(work, job_id)
    return RedirectResponse(f"/jobs/{job_id}", status_code=303)


@router.post("/jobs/{job_id}/retry")
def retry_job(work: WorkDep, job_id: IdPath) -> Response:
    """Take up a failed or cancelled job and show it."""
    jobs.retry(work, job_id)
    return RedirectResponse(f"/jobs/{job_id}", status_code=303)


@router.post("/jobs/{job_id}/delete")
def delete_job(work: WorkDep, job_id: IdPath) -> Response:
    """Delete and show those that are left."""
    jobs.delete(work, job_id)
    return RedirectResponse("/jobs", status_code=303)


def _live(work: Work, job: Job) -> dict[str, Any]:
    its_steps = steps.list_of_job(work, job.id)
    bars = step_bars(its_steps, known_stages(job.spec))
    dataset, images = _samples(work, job)
    return {
        "job": job,
        "made": jobs.made(work, job),
        "active": job.state in ACTIVE,
        "bars": bars,
        "finished": sum(bar.state == "succeeded" for bar in bars),
        "log": log_lines(events.newest(work, job.id, types=LOG_TYPES, limit=NUM_LOG_LINES), its_steps),
        "dataset": dataset,
        "num_images": datasets.num_recorded(work, dataset.id) if dataset else 0,
        "samples": images,
        "sheets": _sheets(work, job),
        "downloads": of_job(work, job),
        "advice": advice(job),
        "summary": summary(work, job),
        "spec_json": json.dumps(job.spec, indent=2, ensure_ascii=False),
    }


def _samples(work: Work, job: Job) -> tuple[Dataset | None, list[DatasetImage]]:
    """The newest labelled images: shards land while the job runs."""
    dataset_id = jobs.made(work, job).get("dataset_id")
    if dataset_id is None:
        return None, []
    dataset = datasets.get(work, dataset_id)
    return dataset, datasets.newest_images(work, dataset_id, limit=NUM_SAMPLES)


def _sheets(work: Work, job: Job) -> list[dict[str, str]]:
    """Pictures that steps left on their way, such as a generator's sample sheets."""
    found = events.samples(work, job.id, limit=NUM_SHEETS)
    return [
        {"url": f"/v1/jobs/{job.id}/samples/{event.id}.png", "words": str(event.data.get("caption") or "Sample sheet")}
        for event in found
    ]
