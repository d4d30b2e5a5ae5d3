"""Recurring tasks that one process of the cluster does at a time: taken under a lease, like steps."""

from __future__ import annotations

from sqlalchemy import or_, text, update

from service.clock import database_now
from service.errors import LeaseLost
from service.tables import Duty
from service.unit_of_work import Work

COLLECT = "collect"
"""Removing orphaned objects."""
BACKUP = "backup"
"""Taking a backup."""


def take(work: Work, name: str, *, owner: str, every_seconds: float = 0.0) -> int | None:
    """Take a duty that nobody is at and that was last done `every_seconds` ago; its token, or None."""
    ensure(work, name)
    free = or_(Duty.lease_until.is_(None), Duty.lease_until < database_now())
    due = or_(Duty.done_at.is_(None), Duty.done_at <= database_now(-every_seconds))
    lease_until = database_now(work.settings.lease_seconds)
    taken = (
        update(Duty)
        .where(Duty.name == name, free, due)
        .values(token=Duty.token + 1, owner=owner, lease_until=lease_until)
        .returning(Duty.token)
    )
    return work.session.execute(taken, execution_options={"synchronize_session": False}).scalar_one_or_none()


def ensure(work: Work, name: str) -> None:
    """Have a row for this name."""
    work.session.execute(
        text("INSERT INTO duties (name, token) VALUES (:name, 0) ON CONFLICT DO NOTHING"), {"name": name}
    )


def exists(work: Work, name: str) -> bool:
    """Whether this database has a row for this name."""
    return work.session.get(Duty, name) is not None


def renew(work: Work, name: str, token: int) -> None:
    """Hold a duty for another lease. Raises LeaseLost."""
    _change(work, name, token, lease_until=database_now(work.settings.lease_seconds))


def finish(work: Work, name: str, token: int) -> None:
    """Give a duty back as done. Raises LeaseLost."""
    _change(work, name, token, lease_until=None, done_at=database_now())


def give_back(work: Work, name: str, token: int) -> None:
    """Give a duty back undone: another process may go on at once. Raises LeaseLost."""
    _change(work, name, token, lease_until=None)


def note_done(work: Work, name: str) -> None:
    """Say that something was just done that needs no lease."""
    ensure(work, name)
    work.session.execute(
        update(Duty).where(Duty.name == name).values(done_at=database_now()),
        execution_options={"synchronize_session": False},
    )


def _change(work: Work, name: str, token: int, **values: object) -> None:
    change = update(Duty).where(Duty.name == name, Duty.token == token, Duty.lease_until.is_not(None))
    changed = work.session.execute(
        change.values(**values).returning(Duty.token), execution_options={"synchronize_session": False}
    )
    if changed.scalar_one_or_none() is None:
        raise LeaseLost(f"Another process has taken the duty {name} by now.")
