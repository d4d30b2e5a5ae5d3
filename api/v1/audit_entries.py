"""The audit log of the workspace."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from api.dependencies import PRINTABLE, ForAdmins, ReadDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.v1.answer import Answer
from service import audit

router = APIRouter(prefix="/v1/audit-entries", tags=["access"], dependencies=[ForAdmins])


class AuditEntryAnswer(Answer):
    """Who did what."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "aud_01kaxv5t8q3m6n9p2r4s7t0v1w",
                "api_key_id": "key_01kaxv5t8q3m6n9p2r4s7t0v1w",
                "actor": "nightly upload",
                "operation": "create_annotation_set",
                "object_id": "ann_01kaxv5t8q3m6n9p2r4s7t0v1w",
                "outcome": "done",
                "status": None,
                "address": "10.0.0.7",
                "request_id": "5f0f6f1f0c6f4a5b9c1f6f2f3f4f5f6f",
                "created_at": "2026-11-23T17:40:00Z",
            }
        }
    )

    id: str
    api_key_id: str | None = Field(description="null: the operator, at the machine itself")
    actor: str = Field(description="The key's name at that time")
    operation: str = Field(description="Its operationId here; for a form of the dashboard, the name of its action")
    object_id: str | None = Field(description="What it was done to, or what it made")
    outcome: Literal["done", "refused"]
    status: int | None = Field(description="HTTP status of a refusal: 403, 404 or 409")
    address: str | None = Field(description="Where the request came from, as the server saw it")
    request_id: str | None = Field(description="Names the request in the service's log")
    created_at: datetime


@router.get("", operation_id="list_audit_entries", summary="Who did what, newest first", responses=problems(400, 422))
def list_audit_entries(
    work: ReadDep,
    paging: PagingDep,
    api_key_id: Annotated[
        str | None, Query(max_length=120, pattern=PRINTABLE, description="Only what was done with this key")
    ] = None,
) -> Page[AuditEntryAnswer]:
    """Everything that changed something in the workspace, in the transaction that changed it, and what was refused."""
    rows = audit.list_page(work, key_id=api_key_id, after=paging.after, limit=paging.limit)
    return Page[AuditEntryAnswer].of(rows, rows.items)
