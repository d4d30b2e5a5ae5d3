"""Tells webhooks what happened: a message per webhook, in the transaction of the event itself.

So a committed event has its messages and a rolled-back one has none. A message is small: it names what is new, and the
receiver fetches the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select

from service.clock import read_clock
from service.ids import new_id
from service.tables import Dataset, Generator, Job, Student, Webhook, WebhookDelivery
from service.unit_of_work import Work
from service.webhooks import EventType

Ping = Literal["webhook.ping"]
PING: Ping = "webhook.ping"
MAX_TEXT = 1_000
"""Characters of an error's sentence in a message."""


def job_ended(work: Work, job: Job) -> None:
    """The job has succeeded, failed or was cancelled."""
    types: dict[str, EventType] = {"succeeded": "job.succeeded", "failed": "job.failed", "cancelled": "job.cancelled"}
    data = {"job_id": job.id, "kind": job.kind, "name": job.name, "state": job.state, "result": job.result}
    if job.error is not None:
        names = ("type", "title", "detail", "step_id", "step_kind")
        data["error"] = {name: str(job.error[name])[:MAX_TEXT] for name in names if job.error.get(name) is not None}
    _announce(work, job.workspace_id, types[job.state], data)


def dataset_sealed(work: Work, row: Dataset) -> None:
    """The dataset is whole and will not change."""
    numbers = {"num_images": row.num_images, "num_kept": row.num_kept}
    data = {"dataset_id": row.id, "job_id": row.job_id, "name": row.name, **numbers}
    _announce(work, row.workspace_id, "dataset.sealed", data)


def student_ready(work: Work, row: Student) -> None:
    """The student can be downloaded."""
    data = {"student_id": row.id, "job_id": row.job_id, "name": row.name, "architecture": row.architecture}
    _announce(work, row.workspace_id, "student.ready", {**data, "dataset_id": row.dataset_id})


def generator_ready(work: Work, row: Generator) -> None:
    """The generator was trained and jobs may name it."""
    data = {"generator_id": row.id, "job_id": row.job_id, "name": row.name}
    _announce(work, row.workspace_id, "generator.ready", data)


def _announce(work: Work, workspace_id: str | None, event_type: EventType, data: Mapping[str, Any]) -> None:
    # Workers are bound to no workspace: only the thing's own is told of it.
    # KEY SHARE: nobody deletes these webhooks before the commit; those being deleted are passed by, not waited for.
    query = select(Webhook).where(Webhook.state == "enabled", Webhook.workspace_id == workspace_id)
    locked = query.with_for_update(read=True, key_share=True, skip_locked=True)
    now = read_clock(work.session)
    for webhook in work.session.scalars(locked):
        if event_type in webhook.event_types:
            add(work, webhook, event_type, data, now)


def add(
    work: Work,
    webhook: Webhook,
    event_type: EventType | Ping,
    data: Mapping[str, Any],
    now: datetime,
) -> WebhookDelivery:
    """Make one message to one webhook, due at once."""
    moment = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document = {"type": event_type, "timestamp": moment, "data": dict(data)}
    row = WebhookDelivery(
        id=new_id("msg"),
        webhook_id=webhook.id,
        event_type=event_type,
        body=json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")),
        state="pending",
        next_attempt_at=now,
        created_at=now,
    )
    work.session.add(row)
    work.session.flush()
    return row
