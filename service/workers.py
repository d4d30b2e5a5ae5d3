"""Worker processes as the database knows them: each says now and then that it is there."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, select

from service.clock import database_now, read_clock
from service.tables import Worker
from service.unit_of_work import Work

FORGET_SECONDS = 3_600.0
"""A worker that was silent for this long is gone for good; until then it is missed."""


@dataclass(frozen=True)
class SignOfLife:
    """What a worker process says of itself."""

    name: str
    """The `owner` of the steps it holds."""
    machine: str
    """Host it runs on."""
    queues: list[str]
    """Queues it takes steps from."""
    device: str
    """What it computes on."""
    memory_used_bytes: int
    """Taken on the device, by whomever."""
    memory_total_bytes: int
    """Memory of the device."""
    scratch_free_bytes: int
    """Free where its files in flight lie."""


def beat(work: Work, sign: SignOfLife) -> None:
    """Say that a worker is there; forgets those that were silent for an hour."""
    now = read_clock(work.session)
    row = work.session.get(Worker, sign.name)
    if row is None:
        work.session.add(Worker(**asdict(sign), started_at=now, seen_at=now))
    else:
        for name, value in asdict(sign).items():
            setattr(row, name, value)
        row.seen_at = now
    gone = delete(Worker).where(Worker.seen_at < database_now(-FORGET_SECONDS))
    work.session.execute(gone, execution_options={"synchronize_session": False})


def leave(work: Work, name: str) -> None:
    """Take a worker's row away: it ends in good order."""
    work.session.execute(delete(Worker).where(Worker.name == name))


def alive(work: Work) -> list[Worker]:
    """Workers that were seen within a lease, by name."""
    seen = Worker.seen_at >= database_now(-work.settings.lease_seconds)
    return list(work.session.scalars(select(Worker).where(seen).order_by(Worker.name)))


def missing(work: Work) -> list[Worker]:
    """Workers that fell silent within the last hour without taking leave, by name."""
    silent = Worker.seen_at < database_now(-work.settings.lease_seconds)
    return list(work.session.scalars(select(Worker).where(silent).order_by(Worker.name)))
