"""Deliveries: every message to a webhook, how its attempts went, and sending it again."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, status
from pydantic import ConfigDict, Field, Json

from api.dependencies import IdPath, ReadDep, WorkDep
from api.errors import problems
from api.pagination import Page, PagingDep
from api.strict_json import StrictRoute
from api.v1.answer import Answer
from service import webhook_deliveries

router = APIRouter(prefix="/v1/webhooks/{webhook_id}/deliveries", tags=["webhooks"], route_class=StrictRoute)

DeliveryState = Literal["pending", "delivered", "failed"]


class WebhookDeliveryAnswer(Answer):
    """One message to a webhook."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "msg_01kaxw7d9f1h3k5m7n9p1r3t5v",
                "webhook_id": "wh_01kaxw5b7d9f1h3k5m7n9p1r3t",
                "event_type": "job.failed",
                "payload": {
                    "type": "job.failed",
                    "timestamp": "2026-11-23T17:52:10.204Z",
                    "data": {"job_id": "job_01kaxv8e3f5g7h9j1k3m5n7p9q", "state": "failed"},
                },
                "state": "pending",
                "attempts": 2,
                "next_attempt_at": "2026-11-23T17:57:20Z",
                "last_attempt_at": "2026-11-23T17:52:15Z",
                "last_status": 503,
                "last_error": "the receiver answered 503",
                "created_at": "2026-11-23T17:52:10Z",
                "finished_at": None,
            }
        }
    )

    id: str = Field(description="The header `webhook-id`, the same in every attempt")
    webhook_id: str
    event_type: str
    payload: Json[dict[str, Any]] = Field(validation_alias="body", description="What is sent")
    state: DeliveryState
    attempts: int = Field(description="Begun since it was made or asked for again")
    next_attempt_at: datetime = Field(description="When a pending one is due")
    last_attempt_at: datetime | None
    last_status: int | None = Field(description="HTTP status of the last attempt; null where nothing was answered")
    last_error: str | None = Field(description="Why the last attempt failed")
    created_at: datetime
    finished_at: datetime | None


@router.get(
    "",
    operation_id="list_webhook_deliveries",
    summary="List a webhook's messages, newest first",
    responses=problems(400, 404, 422),
)
def list_webhook_deliveries(
    work: ReadDep,
    paging: PagingDep,
    webhook_id: IdPath,
    state: Annotated[DeliveryState | None, Query(description="Only messages in this state")] = None,
) -> Page[WebhookDeliveryAnswer]:
    """Those that ended are kept for 30 days."""
    rows = webhook_deliveries.list_page(work, webhook_id, state=state, after=paging.after, limit=paging.limit)
    return Page[WebhookDeliveryAnswer].of(rows, rows.items)


@router.get(
    "/{delivery_id}", operation_id="get_webhook_delivery", summary="Show a message", responses=problems(404, 422)
)
def get_webhook_delivery(work: ReadDep, webhook_id: IdPath, delivery_id: IdPath) -> WebhookDeliveryAnswer:
    """What was sent and how its last attempt went."""
    return WebhookDeliveryAnswer.model_validate(webhook_deliveries.get(work, webhook_id, delivery_id))


@router.post(
    "/{delivery_id}:redeliver",
    operation_id="redeliver_webhook_delivery",
    summary="Send a message again",
    status_code=status.HTTP_202_ACCEPTED,
    responses=problems(404, 409, 422, 507),
)
def redeliver_webhook_delivery(work: WorkDep, webhook_id: IdPath, delivery_id: IdPath) -> WebhookDeliveryAnswer:
    """At once, under the same id, with all attempts before it again. 409 while the webhook is disabled."""
    return WebhookDeliveryAnswer.model_validate(webhook_deliveries.redeliver(work, webhook_id, delivery_id))
