"""The audit log: who did what, to what, when, from where, and how it ended."""

from __future__ import annotations

from sqlalchemy import select

from service.caller import Action
from service.ids import new_id
from service.paging import Page, newest_first
from service.tables import DEFAULT_WORKSPACE_ID, AuditEntry
from service.unit_of_work import Work

OPERATOR = "operator at the machine"
"""Who acts where no key is shown."""


def record_done(work: Work, action: Action, *, made: str | None = None) -> None:
    """Record what this work changed; part of its transaction. `made`: where the work cannot know it by itself."""
    made = made or next(iter(work.added), None)
    _add(work, action, object_id=action.object_id or made, outcome="done")


def record_refused(work: Work, action: Action, status: int) -> None:
    """Record that the caller was refused with this HTTP status; nothing was changed."""
    _add(work, action, object_id=action.object_id, outcome="refused", status=status)


def record_operator(work: Work, operation: str, object_id: str, *, workspace_id: str = DEFAULT_WORKSPACE_ID) -> None:
    """Record what the operator did at the machine itself to this workspace; part of its transaction."""
    row = AuditEntry(id=new_id("aud"), workspace_id=workspace_id, actor=OPERATOR, operation=operation, outcome="done")
    row.object_id = object_id
    work.session.add(row)


def list_page(work: Work, *, key_id: str | None = None, after: str | None = None, limit: int = 50) -> Page[AuditEntry]:
    """Entries of the workspace, newest first; of one key, or of all."""
    query = select(AuditEntry)
    if key_id is not None:
        query = query.where(AuditEntry.api_key_id == key_id)
    return newest_first(work, query, AuditEntry.id, after=after, limit=limit)


def _add(work: Work, action: Action, *, object_id: str | None, outcome: str, status: int | None = None) -> None:
    work.session.add(
        AuditEntry(
            id=new_id("aud"),
            workspace_id=action.caller.workspace_id,
            api_key_id=action.caller.key_id,
            actor=action.caller.key_name,
            operation=action.operation[:60],
            object_id=None if object_id is None else object_id[:120],
            outcome=outcome,
            status=status,
            address=action.address,
            request_id=action.request_id,
        )
    )
