"""Pages of webhooks: who is told of what, every message to them, and sending one again."""

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.dashboard.page import PageRoute, page, query
from api.dependencies import FactoryDep, IdPath, ReadDep, WorkDep
from api.pagination import Paging, PagingDep, encode_cursor
from service import webhook_deliveries, webhooks
from service.unit_of_work import Work

DELIVERY_STATES = ("pending", "delivered", "failed")
State = Literal["pending", "delivered", "failed", ""]
router = APIRouter(include_in_schema=False, route_class=PageRoute)


@router.get("/webhooks")
def webhook_list(request: Request, work: ReadDep, factory: FactoryDep, paging: PagingDep) -> HTMLResponse:
    """Webhooks, newest first."""
    rows = webhooks.list_page(work, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    return page(
        request,
        "webhooks.html",
        section="webhooks",
        on=factory.settings.webhooks,
        webhooks=rows.items,
        event_types=webhooks.EVENT_TYPES,
        first_page=paging.after is None,
        next_url=f"/webhooks{query(cursor=cursor)}" if cursor else None,
    )


@router.get("/webhooks/{webhook_id}")
def webhook_page(
    request: Request, work: ReadDep, paging: PagingDep, webhook_id: IdPath, state: Annotated[State, Query()] = ""
) -> HTMLResponse:
    """One webhook and its messages."""
    return _webhook_page(request, "webhook.html", work, paging, webhook_id, state)


@router.get("/webhooks/{webhook_id}/live")
def webhook_live(
    request: Request, work: ReadDep, paging: PagingDep, webhook_id: IdPath, state: Annotated[State, Query()] = ""
) -> HTMLResponse:
    """The part of the page that changes, for htmx to swap in."""
    return _webhook_page(request, "_webhook_live.html", work, paging, webhook_id, state)


def _webhook_page(
    request: Request, template: str, work: Work, paging: Paging, webhook_id: str, state: State
) -> HTMLResponse:
    webhook = webhooks.get(work, webhook_id)
    rows = webhook_deliveries.list_page(work, webhook_id, state=state or None, after=paging.after, limit=paging.limit)
    cursor = encode_cursor(rows.next_after)
    shown = query(state=state, limit=request.query_params.get("limit"), cursor=request.query_params.get("cursor"))
    return page(
        request,
        template,
        section="webhooks",
        title=webhook.url,
        webhook=webhook,
        deliveries=rows.items,
        state=state,
        states=DELIVERY_STATES,
        live_url=f"/webhooks/{webhook_id}/live{shown}",
        waiting=any(row.state == "pending" for row in rows.items),
        all_types=len(webhook.event_types) == len(webhooks.EVENT_TYPES),
        first_page=paging.after is None,
        next_url=f"/webhooks/{webhook_id}{query(state=state, cursor=cursor)}" if cursor else None,
    )


@router.get("/webhooks/{webhook_id}/deliveries/{delivery_id}")
def delivery_page(request: Request, work: ReadDep, webhook_id: IdPath, delivery_id: IdPath) -> HTMLResponse:
    """One message, how it went and what it says."""
    delivery = webhook_deliveries.get(work, webhook_id, delivery_id)
    return page(
        request,
        "webhook_delivery.html",
        section="webhooks",
        title=f"{delivery.event_type} to {webhooks.get(work, webhook_id).url}",
        webhook=webhooks.get(work, webhook_id),
        delivery=delivery,
        max_attempts=webhook_deliveries.max_attempts(delivery),
        payload=json.dumps(json.loads(delivery.body), indent=2, ensure_ascii=False),
    )


@router.post("/webhooks/{webhook_id}/ping")
def ping(work: WorkDep, webhook_id: IdPath) -> Response:
    """Send a test message and show the webhook."""
    webhook_deliveries.ping(work, webhook_id)
    return _back(webhook_id)


@router.post("/webhooks/{webhook_id}/enable")
def enable(work: WorkDep, webhook_id: IdPath) -> Response:
    """Send messages again and show the webhook."""
    webhooks.change(work, webhook_id, enabled=True)
    return _back(webhook_id)


@router.post("/webhooks/{webhook_id}/disable")
def disable(work: WorkDep, webhook_id: IdPath) -> Response:
    """Send nothing more and show the webhook."""
    webhooks.change(work, webhook_id, enabled=False)
    return _back(webhook_id)


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
def redeliver(work: WorkDep, webhook_id: IdPath, delivery_id: IdPath) -> Response:
    """Send a message again and show the webhook."""
    webhook_deliveries.redeliver(work, webhook_id, delivery_id)
    return _back(webhook_id)


def _back(webhook_id: str) -> Response:
    return RedirectResponse(f"/webhooks/{webhook_id}", status_code=303)
