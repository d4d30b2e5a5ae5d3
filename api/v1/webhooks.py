"""Webhooks: made, changed, tried, removed."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response, status
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.dependencies import IdPath, ReadDep, WorkDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.v1.answer import Answer
from api.v1.webhook_deliveries import WebhookDeliveryAnswer
from service import webhook_deliveries, webhooks
from service.egress import MAX_URL
from service.webhooks import EVENT_TYPES, EventType

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], route_class=StrictRoute)

Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]
URL_TEXT = "https, to the public internet or a network that the operator allows"


class NewWebhook(BaseModel):
    """Where messages go, and about what."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"example": {"url": "https://hooks.example.com/labels", "event_types": ["job.failed"]}},
    )

    url: Url = Field(description=URL_TEXT)
    event_types: EventTypes = Field(list(EVENT_TYPES), description="All events where this is left out")


class WebhookChange(BaseModel):
    """What is to be otherwise; what is left out stays."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"example": {"enabled": True}})

    url: Url | None = Field(None, description=URL_TEXT)
    event_types: EventTypes | None = None
    enabled: bool | None = Field(None, description="False stops all messages; true begins again")


EXAMPLE: dict[str, Any] = {
    "id": "wh_01kaxw5b7d9f1h3k5m7n9p1r3t",
    "url": "https://hooks.example.com/labels",
    "event_types": ["job.failed"],
    "state": "enabled",
    "disabled_reason": None,
    "failing_since": None,
    "previous_secret_until": None,
    "created_at": "2026-11-23T17:40:00Z",
}


class WebhookAnswer(Answer):
    """Who is told of what, and whether that works."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    id: str
    url: str
    event_types: list[EventType]
    state: Literal["enabled", "disabled"]
    disabled_reason: str | None
    failing_since: datetime | None = Field(description="First failed attempt since the last message that got through")
    previous_secret_until: datetime | None = Field(description="A replaced secret signs as well until then")
    created_at: datetime


class WebhookSecretAnswer(WebhookAnswer):
    """A webhook with its secret, which is shown this once."""

    model_config = ConfigDict(
        json_schema_extra={"example": EXAMPLE | {"secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"}}
    )

    secret: str = Field(description="Verifies signatures (Standard Webhooks); keep it, it is not shown again")


@router.post(
    "",
    operation_id="create_webhook",
    summary="Make a webhook",
    status_code=status.HTTP_201_CREATED,
    responses=problems(400, 409, 413, 415, 422, 507),
)
def create_webhook(work: WorkDep, body: NewWebhook, response: Response) -> WebhookSecretAnswer:
    """The answer has the secret. 409 where the operator has not turned webhooks on."""
    row = webhooks.create(work, body.url, body.event_types)
    response.headers["Location"] = f"/v1/webhooks/{row.id}"
    return WebhookSecretAnswer.model_validate(row)


@router.get("", operation_id="list_webhooks", summary="List webhooks, newest first", responses=problems(400, 422))
def list_webhooks(work: ReadDep, paging: PagingDep) -> Page[WebhookAnswer]:
    """Enabled and disabled ones."""
    rows = webhooks.list_page(work, after=paging.after, limit=paging.limit)
    return Page[WebhookAnswer].of(rows, rows.items)


@router.get("/{webhook_id}", operation_id="get_webhook", summary="Show a webhook", responses=problems(404, 422))
def get_webhook(work: ReadDep, webhook_id: IdPath) -> WebhookAnswer:
    """Its state, and why it is disabled."""
    return WebhookAnswer.model_validate(webhooks.get(work, webhook_id))


@router.patch(
    "/{webhook_id}",
    operation_id="update_webhook",
    summary="Change a webhook",
    responses=problems(400, 404, 409, 413, 415, 422, 507),
)
def update_webhook(work: WorkDep, webhook_id: IdPath, body: WebhookChange) -> WebhookAnswer:
    """Disabling gives up the messages that wait; each can be asked for again."""
    row = webhooks.change(work, webhook_id, url=body.url, event_types=body.event_types, enabled=body.enabled)
    return WebhookAnswer.model_validate(row)


@router.delete(
    "/{webhook_id}",
    operation_id="delete_webhook",
    summary="Remove a webhook",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problems(404, 422, 507),
)
def delete_webhook(work: WorkDep, webhook_id: IdPath) -> None:
    """With all its deliveries."""
    webhooks.delete(work, webhook_id)


@router.post(
    "/{webhook_id}:ping",
    operation_id="ping_webhook",
    summary="Send a test message",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(404, 409, 422, 507),
)
def ping_webhook(work: WorkDep, webhook_id: IdPath) -> WebhookDeliveryAnswer:
    """Of type `webhook.ping`, tried once; its delivery shows how it went."""
    return WebhookDeliveryAnswer.model_validate(webhook_deliveries.ping(work, webhook_id))


@router.post(
    "/{webhook_id}:rotate-secret",
    operation_id="rotate_webhook_secret",
    summary="Replace the secret",
    responses=problems(404, 422, 507),
)
def rotate_webhook_secret(work: WorkDep, webhook_id: IdPath) -> WebhookSecretAnswer:
    """For a day messages carry two signatures, by the old and by the new secret."""
    return WebhookSecretAnswer.model_validate(webhooks.rotate_secret(work, webhook_id))
