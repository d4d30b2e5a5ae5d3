"""Workspaces: made by the operator, opened by keys."""

from __future__ import annotations

from sqlalchemy import select

from service.errors import Conflict, NotFound
from service.ids import new_id
from service.lookup import must_find
from service.paging import Page, newest_first
from service.tables import Workspace
from service.unit_of_work import Work


def create(work: Work, name: str) -> Workspace:
    """Make a workspace; it is empty and has no key. Raises Conflict when the name is taken."""
    if _by_name(work, name) is not None:
        raise Conflict(f"There is already a workspace {name}; choose another name.")
    row = Workspace(id=new_id("ws"), name=name)
    work.session.add(row)
    work.session.flush()
    return row


def get(work: Work, workspace_id: str) -> Workspace:
    """One workspace. Raises NotFound."""
    return must_find(work, Workspace, workspace_id, "workspace")


def by_name(work: Work, name: str) -> Workspace:
    """The workspace of this name. Raises NotFound."""
    row = _by_name(work, name)
    if row is None:
        raise NotFound(f"There is no workspace {name}.")
    return row


def list_page(work: Work, *, after: str | None = None, limit: int = 50) -> Page[Workspace]:
    """Workspaces, newest first."""
    return newest_first(work, select(Workspace), Workspace.id, after=after, limit=limit)


def _by_name(work: Work, name: str) -> Workspace | None:
    return work.session.scalars(select(Workspace).where(Workspace.name == name)).one_or_none()
