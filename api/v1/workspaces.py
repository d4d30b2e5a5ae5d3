"""Workspaces: what the caller sees, and for the operator all of them."""

from datetime import datetime
from typing import Literal

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import CallerDep, FactoryDep, ForAdmins, ForOperators, ReadDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.v1.answer import Answer
from api.v1.api_keys import IssuedKeyAnswer, issued
from service import access, workspaces
from service.spec_parts import Name

router = APIRouter(prefix="/v1", tags=["access"], route_class=StrictRoute)


class NewWorkspace(BaseModel):
    """What a workspace is called."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"example": {"name": "pathology"}})

    name: Name


class WorkspaceAnswer(Answer):
    """What a key opens."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "ws_01kaxv5t8q3m6n9p2r4s7t0v1w",
                "name": "pathology",
                "created_at": "2026-11-23T17:40:00Z",
            }
        }
    )

    id: str
    name: str
    created_at: datetime


class NewWorkspaceAnswer(WorkspaceAnswer):
    """A workspace and the key that opens it."""

    first_key: IssuedKeyAnswer = Field(description="An admin key, told this once")


class CallerAnswer(BaseModel):
    """Who asks."""

    workspace: WorkspaceAnswer
    key_id: str
    key_name: str
    scope: Literal["read", "write", "admin"]


@router.get("/caller", operation_id="get_caller", summary="Show who asks", responses=problems(422))
def get_caller(work: ReadDep, caller: CallerDep) -> CallerAnswer:
    """The key, what it may do, and its workspace."""
    workspace = WorkspaceAnswer.model_validate(workspaces.get(work, caller.workspace_id))
    return CallerAnswer(workspace=workspace, key_id=caller.key_id, key_name=caller.key_name, scope=caller.scope)


@router.get(
    "/workspaces",
    operation_id="list_workspaces",
    summary="List workspaces, newest first",
    responses=problems(400, 422),
    dependencies=[ForAdmins, ForOperators],
)
def list_workspaces(factory: FactoryDep, paging: PagingDep) -> Page[WorkspaceAnswer]:
    """All of them: for admin keys of the operator's workspace, which is called `default`."""
    with factory.unbound().read() as work:
        rows = workspaces.list_page(work, after=paging.after, limit=paging.limit)
        return Page[WorkspaceAnswer].of(rows, rows.items)


@router.post(
    "/workspaces",
    operation_id="create_workspace",
    summary="Make a workspace",
    status_code=status.HTTP_201_CREATED,
    responses=problems(400, 409, 413, 415, 422, 507),
    dependencies=[ForAdmins, ForOperators],
)
def create_workspace(factory: FactoryDep, body: NewWorkspace, response: Response) -> NewWorkspaceAnswer:
    """With its first admin key: for admin keys of the operator's workspace, which sees nothing of what is made there."""
    made = access.open_workspace(factory, body.name)
    response.headers["Cache-Control"] = "no-store"
    row = WorkspaceAnswer.model_validate(made.workspace).model_dump()
    return NewWorkspaceAnswer(**row, first_key=issued(made.first_key))
