"""Deleting: the row stays as a tombstone, its objects and the rows below it go a little later (`purging.py`).

A tombstone keeps a thing's name, card and lineage for whatever came from it. Lists leave it out, its bytes are gone for
every reader from the commit on, and nobody can name it in a new job.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from service import events, job_inputs
from service.clock import read_clock
from service.errors import Conflict
from service.job_inputs import NOUNS, Thing
from service.lookup import require_present
from service.tables import Job
from service.unit_of_work import Work


def delete(work: Work, row: Thing) -> None:
    """Make a tombstone of it. Raises Gone, Conflict while a job that goes on makes it or takes it in."""
    if (job_id := getattr(row, "job_id", None)) is not None:
        events.lock_job(work, job_id, deleted=True)  # as everywhere: the job's lock comes first
    table: Any = type(row)
    query = select(table).where(table.id == row.id).with_for_update()
    locked = work.session.scalars(query, execution_options={"populate_existing": True}).one()
    require_present(locked, NOUNS[table])
    job_inputs.require_unused(work, locked)
    locked.deleted_at = read_clock(work.session)
    work.session.flush()


def delete_job(work: Work, job_id: str) -> None:
    """Make a tombstone of a job that has ended; what it made stays. Raises NotFound, Gone, Conflict while it goes on."""
    job: Job = events.lock_job(work, job_id)
    if job_inputs.is_busy(work, job):
        raise Conflict(f"The job {job_id} is {job.state}, and its steps still run; cancel it and wait for its end.")
    job.deleted_at = read_clock(work.session)
    work.session.flush()
