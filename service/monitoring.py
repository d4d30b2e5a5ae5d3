"""What an operator's monitoring reads off the database: queues, leases, workers, counts. One scrape is a few small queries.

Ages are on the database's clock. Nothing here goes through finished jobs, steps or images one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from service import duties, jobs, steps, tallies, webhook_deliveries, workers
from service.clock import read_clock
from service.doorbell import QUEUES
from service.leases import is_due
from service.tables import Duty, Step, Worker
from service.unit_of_work import Work

JOB_STATES = ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Readings:
    """The factory at one moment."""

    jobs: Mapping[str, int]
    """Jobs by state."""
    steps: Mapping[tuple[str, str], int]
    """Steps by queue and state (`ready`, `running`)."""
    waiting_seconds: Mapping[str, float]
    """By queue: how long the longest waiting step that may be claimed has waited; 0 where none waits."""
    lease_age_seconds: Mapping[str, float]
    """By queue: the longest time since a running step's lease was renewed; 0 where none runs."""
    rates: Mapping[tuple[str, str], float]
    """By kind of step and unit: units per second of all running steps together."""
    workers: Sequence[Worker]
    """Those that are alive."""
    num_missing_workers: int
    """Those that fell silent within the last hour without taking leave."""
    duty_ages: Mapping[str, float]
    """Seconds since `collect` and `backup` were last finished; without those that never were."""
    webhook_messages: Mapping[str, int]
    """Messages to webhooks by state, of the last 30 days."""
    counts: Mapping[str, Mapping[tuple[str, str], float]]
    """Counts that only grow: measure -> (kind, label) -> value (`service/tallies.py`)."""


def read(work: Work) -> Readings:
    """Read everything in one transaction."""
    now = read_clock(work.session)
    running = work.session.execute(
        select(Step.queue, Step.kind, Step.lease_until, Step.progress).where(Step.state == "running")
    ).all()
    by_state = jobs.counts(work)
    by_queue = steps.counts(work)
    return Readings(
        jobs={state: by_state.get(state, 0) for state in JOB_STATES},
        steps={(queue, state): by_queue.get((queue, state), 0) for queue in QUEUES for state in ("ready", "running")},
        waiting_seconds=_waiting(work, now),
        lease_age_seconds=_lease_ages(work, now, [(row.queue, row.lease_until) for row in running]),
        rates=_rates([(row.kind, row.progress or {}) for row in running]),
        workers=workers.alive(work),
        num_missing_workers=len(workers.missing(work)),
        duty_ages=_duty_ages(work, now),
        webhook_messages=dict.fromkeys(webhook_deliveries.STATES, 0) | webhook_deliveries.counts(work),
        counts=tallies.read(work.session),
    )


def _waiting(work: Work, now: datetime) -> dict[str, float]:
    # A step that was given back waits since then; its last start is the nearest that the row knows.
    since = func.coalesce(Step.not_before, Step.started_at, Step.created_at)
    query = select(Step.queue, func.min(since)).where(is_due(work.settings)).group_by(Step.queue)
    found = {queue: _age(now, oldest) for queue, oldest in work.session.execute(query)}
    return {queue: found.get(queue, 0.0) for queue in QUEUES}


def _lease_ages(work: Work, now: datetime, leases: Sequence[tuple[str, datetime | None]]) -> dict[str, float]:
    ages = dict.fromkeys(QUEUES, 0.0)
    for queue, lease_until in leases:
        if lease_until is not None:
            age = work.settings.lease_seconds - (lease_until - now).total_seconds()
            ages[queue] = max(ages.get(queue, 0.0), age)
    return ages


def _rates(progresses: Sequence[tuple[str, Mapping[str, object]]]) -> dict[tuple[str, str], float]:
    rates: dict[tuple[str, str], float] = defaultdict(float)
    for kind, progress in progresses:
        rate = progress.get("rate")
        if isinstance(rate, int | float):
            rates[kind, str(progress.get("unit", ""))[:40]] += rate
    return rates


def _duty_ages(work: Work, now: datetime) -> dict[str, float]:
    names = (duties.COLLECT, duties.BACKUP)
    query = select(Duty.name, Duty.done_at).where(Duty.name.in_(names))
    return {name: _age(now, done_at) for name, done_at in work.session.execute(query) if done_at is not None}


def _age(now: datetime, then: datetime) -> float:
    return max((now - then).total_seconds(), 0.0)
