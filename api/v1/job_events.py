"""A job's events as they happen (server-sent events), and the pictures they speak of."""

from collections.abc import AsyncIterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.dependencies import FactoryDep, IdPath, ReadDep, job_watch, shared_reads
from api.downloads import Download, download, file_responses
from api.errors import problems
from api.v1.answer import Answer
from service import events, jobs
from service.bootstrap import Factory
from service.errors import NotFound

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

BATCH = 200
#: How long a browser waits before it comes back after a cut connection.
RETRY_MILLISECONDS = 2_000
ENDED = {"succeeded", "failed", "cancelled"}
MAX_EVENT_ID = 2**63 - 1

EventId = Annotated[int, Path(ge=1, le=MAX_EVENT_ID)]


class EventAnswer(Answer):
    """The `data` of one event; its `id` and `type` are also the stream's `id` and `event` fields."""

    id: int
    job_id: str
    step_id: str | None
    type: str
    data: dict[str, Any]
    created_at: datetime


async def _resume_after(
    last_event_id: Annotated[
        str | None, Header(pattern=r"^\d{1,18}$", description="Sent by browsers when they come back")
    ] = None,
    after: Annotated[int, Query(ge=0, le=MAX_EVENT_ID, description="Only events after this id")] = 0,
) -> int:
    return after if last_event_id is None else int(last_event_id)


def _known_job(factory: FactoryDep, job_id: IdPath) -> str:
    """Answer 404 while there still is a status to choose.

    In one go: a connection that is held while its request waits for a thread is one that many new streams wait for.
    """
    with factory.read() as work:
        return jobs.get(work, job_id).id


@router.get(
    "/{job_id}/events",
    operation_id="stream_job_events",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses=problems(404, 422),
)
async def stream_job_events(
    request: Request,
    factory: FactoryDep,
    job_id: Annotated[str, Depends(_known_job)],
    last_id: Annotated[int, Depends(_resume_after)],
) -> AsyncIterator[ServerSentEvent]:
    """All events from the beginning or after `Last-Event-ID`, then new ones as they happen.

    Ends after the last event of a job that has ended. Comments keep quiet connections open.
    """
    yield ServerSentEvent(retry=RETRY_MILLISECONDS, comment="events of the job")
    with job_watch(request).follow(job_id) as followed:
        while True:
            read = partial(to_thread.run_sync, _read, factory, job_id, last_id)
            batch, ended = await shared_reads(request).get((factory.workspace_id, job_id, last_id), read)
            for event_id, kind, data in batch:
                last_id = event_id
                yield ServerSentEvent(raw_data=data, event=kind, id=str(event_id))
            if len(batch) == BATCH:
                continue
            if ended:
                return
            await followed.news(last_id)


def _read(factory: Factory, job_id: str, last_id: int) -> tuple[list[tuple[int, str, str]], bool]:
    """One short look: id, type and JSON of the new events, and whether the job had ended before we looked for them."""
    with factory.read() as work:
        ended = jobs.get(work, job_id, deleted=True).state in ENDED
        rows = events.after(work, job_id, last_id, BATCH)
        return [(row.id, row.type, EventAnswer.model_validate(row).model_dump_json()) for row in rows], ended


@router.get(
    "/{job_id}/samples/{event_id}.png",
    operation_id="get_job_sample",
    summary="The picture of a `sample` event",
    response_class=Response,
    responses=file_responses("image/png", "The picture"),
)
def get_job_sample(request: Request, work: ReadDep, job_id: IdPath, event_id: EventId) -> Response:
    """A sheet of samples, as the step left it."""
    jobs.get(work, job_id)
    event = events.get(work, event_id)
    if event.job_id != job_id or event.type != "sample":
        raise NotFound(f"Event {event_id} is no sample of job {job_id}.")
    item = Download(str(event.data["key"]), f"{job_id}-{event_id}.png", "image/png")
    return download(request, work.storage, item)
