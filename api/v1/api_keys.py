"""API keys of the workspace: made, listed, changed, rotated, revoked; a secret is told once."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, ConfigDict, Field

from api.dependencies import ForAdmins, IdPath, ReadDep, WorkDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.v1.answer import Answer
from service import api_keys
from service.caller import Scope
from service.spec_parts import Name

router = APIRouter(prefix="/v1/api-keys", tags=["access"], route_class=StrictRoute, dependencies=[ForAdmins])

MAX_DAYS = 3650
MAX_OVERLAP_SECONDS = 7 * 86_400
MaxStoredBytes = Annotated[int, Field(ge=1, le=10**15)]
MaxActiveJobs = Annotated[int, Field(ge=1, le=10**6)]
BYTES_TEXT = (
    "Most bytes that what it brought and what its jobs made may take, else 413; null: only the workspace's limit"
)
JOBS_TEXT = "Most of its jobs that go on at a time, else 429; null: only the workspace's limit"


class NewApiKey(BaseModel):
    """What a key is for."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"example": {"name": "nightly upload", "scope": "write", "days": 90}},
    )

    name: Name
    scope: Scope
    days: (
        Annotated[int, Field(ge=1, le=MAX_DAYS, description="How long it holds; null: until it is revoked")] | None
    ) = None
    max_stored_bytes: MaxStoredBytes | None = Field(None, description=BYTES_TEXT)
    max_active_jobs: MaxActiveJobs | None = Field(None, description=JOBS_TEXT)


class ApiKeyChange(BaseModel):
    """What is to be otherwise; what is left out stays."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"example": {"max_stored_bytes": 5_000_000_000}}
    )

    name: Name | None = Field(None, description="null: it stays")
    max_stored_bytes: MaxStoredBytes | None = Field(None, description=BYTES_TEXT)
    max_active_jobs: MaxActiveJobs | None = Field(None, description=JOBS_TEXT)

    @property
    def sent(self) -> dict[str, Any]:
        """What the request says: null takes a limit away, and silence leaves it."""
        return self.model_dump(exclude_unset=True)


class Rotation(BaseModel):
    """How the old secret ends."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"example": {"overlap_seconds": 3600}})

    overlap_seconds: Annotated[
        int, Field(ge=0, le=MAX_OVERLAP_SECONDS, description="The old secret holds for this long; 0: it ends at once")
    ] = 0


class ApiKeyAnswer(Answer):
    """A key without its secret."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "key_01kaxv5t8q3m6n9p2r4s7t0v1w",
                "name": "nightly upload",
                "scope": "write",
                "prefix": "k3m6n9p2",
                "expires_at": "2027-02-21T17:40:00Z",
                "former_until": None,
                "revoked_at": None,
                "last_used_at": "2026-11-24T02:00:00Z",
                "max_stored_bytes": 5_000_000_000,
                "max_active_jobs": None,
                "created_at": "2026-11-23T17:40:00Z",
            }
        }
    )

    id: str
    name: str
    scope: Literal["read", "write", "admin"]
    prefix: str = Field(description="The key begins with `lf_`, this, and `_`")
    expires_at: datetime | None = Field(description="null: it holds until it is revoked")
    former_until: datetime | None = Field(description="Until then the secret before the last rotation holds, too")
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute")
    max_stored_bytes: int | None = Field(description=BYTES_TEXT)
    max_active_jobs: int | None = Field(description=JOBS_TEXT)
    created_at: datetime


class IssuedKeyAnswer(ApiKeyAnswer):
    """A key and, this once, what to send."""

    key: str = Field(description="Keep it: only its digest stays here", examples=["lf_k3m6n9p2_" + 43 * "x"])


def issued(made: api_keys.IssuedKey) -> IssuedKeyAnswer:
    """The answer that tells the secret."""
    return IssuedKeyAnswer(**ApiKeyAnswer.model_validate(made.row).model_dump(), key=made.key)


@router.post(
    "",
    operation_id="create_api_key",
    summary="Make a key",
    status_code=status.HTTP_201_CREATED,
    responses=problems(400, 413, 415, 422, 507),
)
def create_api_key(work: WorkDep, body: NewApiKey, response: Response) -> IssuedKeyAnswer:
    """`key` is what to send as `Authorization: Bearer`; it is told this once."""
    lifetime = None if body.days is None else timedelta(days=body.days)
    limits = api_keys.Limits(max_stored_bytes=body.max_stored_bytes, max_active_jobs=body.max_active_jobs)
    made = api_keys.create(work, body.name, body.scope, lifetime=lifetime, **limits)
    response.headers["Location"] = f"/v1/api-keys/{made.row.id}"
    response.headers["Cache-Control"] = "no-store"
    return issued(made)


@router.get("", operation_id="list_api_keys", summary="List keys, newest first", responses=problems(400, 422))
def list_api_keys(work: ReadDep, paging: PagingDep) -> Page[ApiKeyAnswer]:
    """Those of the workspace, ended ones too."""
    rows = api_keys.list_page(work, after=paging.after, limit=paging.limit)
    return Page[ApiKeyAnswer].of(rows, rows.items)


@router.get("/{key_id}", operation_id="get_api_key", summary="Show a key", responses=problems(404, 422))
def get_api_key(work: ReadDep, key_id: IdPath) -> ApiKeyAnswer:
    """Its scope, its limits, and when it was last used."""
    return ApiKeyAnswer.model_validate(api_keys.get(work, key_id))


@router.patch(
    "/{key_id}",
    operation_id="update_api_key",
    summary="Change a key",
    responses=problems(400, 404, 409, 413, 415, 422, 507),
)
def update_api_key(work: WorkDep, key_id: IdPath, body: ApiKeyChange) -> ApiKeyAnswer:
    """A limit holds from the answer on; what is there already stays. A key that has ended is a 409."""
    return ApiKeyAnswer.model_validate(api_keys.change(work, key_id, **body.sent))


@router.post(
    "/{key_id}:rotate",
    operation_id="rotate_api_key",
    summary="Give a key a new secret",
    responses=problems(400, 404, 409, 413, 415, 422, 507),
)
def rotate_api_key(work: WorkDep, key_id: IdPath, body: Rotation, response: Response) -> IssuedKeyAnswer:
    """Id, name and scope stay. Sessions end with the secret that opened them."""
    response.headers["Cache-Control"] = "no-store"
    return issued(api_keys.rotate(work, key_id, overlap=timedelta(seconds=body.overlap_seconds)))


@router.post(
    "/{key_id}:revoke", operation_id="revoke_api_key", summary="End a key", responses=problems(404, 409, 422, 507)
)
def revoke_api_key(work: WorkDep, key_id: IdPath) -> ApiKeyAnswer:
    """At once and for good, with every session that it opened. Twice is no error; the last admin key is a 409."""
    return ApiKeyAnswer.model_validate(api_keys.revoke(work, key_id))
