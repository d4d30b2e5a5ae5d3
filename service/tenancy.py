"""One workspace never meets another: the one place that keeps them apart.

A session bound to a workspace finds, changes and deletes only rows of that workspace, whatever the query says, and
stamps the rows it adds, with the caller's key too. Workers, the collector and the operator's commands work unbound and name the workspace of what
they add. Queries go through mapped classes; a bare `Table` would pass by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Executable, event, exists, or_
from sqlalchemy.orm import ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.orm.interfaces import ORMOption
from sqlalchemy.sql import visitors

from service.tables import (
    DEFAULT_WORKSPACE_ID,
    AnnotationSet,
    ApiKey,
    AuditEntry,
    Base,
    Dataset,
    DatasetExport,
    DatasetImage,
    DatasetShard,
    Event,
    Generator,
    ImagePool,
    Job,
    PoolPart,
    Report,
    SignIn,
    Step,
    Student,
    Webhook,
    WebhookDelivery,
    Workspace,
)
from service.tables.owned import Attributed

Rule = Callable[[str], ColumnElement[bool]]
"""What the rows of a workspace have in common."""
EVERYWHERE = "everywhere"
"""Execution option of a query that looks into all workspaces: for what the operator's own does to what it offers."""
ADDED = "added"
"""Ids of the owned rows that a bound session added, in `Session.info`."""


class WorkspaceSession(Session):
    """A session that may be bound to a workspace, and to a key, by `info={"workspace_id": ..., "api_key_id": ...}`."""

    @property
    def workspace_id(self) -> str | None:
        """The workspace; None where it is unbound."""
        found: str | None = self.info.get("workspace_id")
        return found

    @property
    def api_key_id(self) -> str | None:
        """The key that asks; None where nobody's request is served."""
        found: str | None = self.info.get("api_key_id")
        return found


def _own(table: type[Any]) -> Rule:
    return lambda workspace_id: table.workspace_id == workspace_id


def _part_of(owner: type[Any], child: type[Any], reference: Any) -> Rule:
    def rule(workspace_id: str) -> ColumnElement[bool]:
        return exists().where(owner.id == reference, owner.workspace_id == workspace_id).correlate(child)

    return rule


def _own_or_offered(workspace_id: str) -> ColumnElement[bool]:
    return or_(Generator.workspace_id == workspace_id, Generator.workspace_id.is_(None))


RULES: Mapping[type[Base], Rule] = {
    Workspace: lambda workspace_id: Workspace.id == workspace_id,
    **{table: _own(table) for table in (ApiKey, AuditEntry, Webhook)},
    **{table: _own(table) for table in (ImagePool, AnnotationSet, Job, Dataset, Student, Report)},
    Generator: _own_or_offered,
    SignIn: _part_of(ApiKey, SignIn, SignIn.api_key_id),
    WebhookDelivery: _part_of(Webhook, WebhookDelivery, WebhookDelivery.webhook_id),
    PoolPart: _part_of(ImagePool, PoolPart, PoolPart.pool_id),
    Step: _part_of(Job, Step, Step.job_id),
    Event: _part_of(Job, Event, Event.job_id),
    DatasetShard: _part_of(Dataset, DatasetShard, DatasetShard.dataset_id),
    DatasetImage: _part_of(Dataset, DatasetImage, DatasetImage.dataset_id),
    DatasetExport: _part_of(Dataset, DatasetExport, DatasetExport.dataset_id),
}
"""Every table with rows of a workspace; a table that is not here and no exception of the test fails the test."""
_BY_NAME = {table.__tablename__: table for table in RULES}


@lru_cache(maxsize=4096)
def _restriction(table_name: str, workspace_id: str, writes: bool) -> ORMOption:
    table = _BY_NAME[table_name]
    rule = _own(table) if writes and table is Generator and workspace_id != DEFAULT_WORKSPACE_ID else RULES[table]
    return with_loader_criteria(table, rule(workspace_id), include_aliases=True)


@event.listens_for(WorkspaceSession, "do_orm_execute")
def _restrict(state: ORMExecuteState) -> None:
    """Add the rule of every table that the statement names, in sub-queries too."""
    workspace_id = state.session.info.get("workspace_id")
    if workspace_id is None or state.is_insert or state.execution_options.get(EVERYWHERE):
        return
    writes = state.is_update or state.is_delete
    names = _table_names(state.statement) & _BY_NAME.keys()
    state.statement = state.statement.options(*(_restriction(name, workspace_id, writes) for name in sorted(names)))


def _table_names(statement: Executable) -> set[str]:
    found = set()
    for element in visitors.iterate(statement):  # type: ignore[arg-type]
        if element.__visit_name__ == "table":
            found.add(element.name)  # type: ignore[attr-defined]
        elif element.__visit_name__ == "column" and (table := element.table) is not None:  # type: ignore[attr-defined]
            found.add(getattr(table, "name", None))
    return found


@event.listens_for(WorkspaceSession, "before_flush")
def _stamp(session: Session, _context: Any, _instances: Any) -> None:
    """Give new rows to the workspace, and to the key that asks for them. Raises RuntimeError for a row that is not its own."""
    workspace_id = session.info.get("workspace_id")
    if workspace_id is None:
        return
    for row in session.new:
        if getattr(row, "workspace_id", workspace_id) is None:
            row.workspace_id = workspace_id
        if isinstance(row, Attributed) and row.api_key_id is None:
            row.api_key_id = session.info.get("api_key_id")
    for row in (*session.new, *session.dirty, *session.deleted):
        if not may_change(getattr(row, "workspace_id", workspace_id), workspace_id):
            raise RuntimeError(f"a row of {row.workspace_id} was to be changed on behalf of {workspace_id}")


def may_change(owner_id: str | None, workspace_id: str | None) -> bool:
    """Whether a work of this workspace, or an unbound one, may change such a row.

    What is offered to all workspaces is changed by the operator's own alone.
    """
    return workspace_id in (None, owner_id) or (owner_id is None and workspace_id == DEFAULT_WORKSPACE_ID)


@event.listens_for(WorkspaceSession, "after_flush")
def _remember(session: Session, _context: Any) -> None:
    """Keep the ids of new rows for the audit log."""
    if session.info.get("workspace_id") is not None:
        session.info.setdefault(ADDED, []).extend(row.id for row in session.new if hasattr(row, "workspace_id"))
