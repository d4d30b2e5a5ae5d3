"""Pages of webhooks: who is told of what, every message to them, and sending one again.

A secret is shown on the one answer that made it.
"""

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.dashboard.page import FormDep, PageRoute, page, query, read_form
from api.dependencies import FactoryDep, IdPath, ReadDep, WorkDep
from api.pagination import DEFAULT_LIMIT, Paging, PagingDep, encode_cursor
from api.v1.webhooks import NewWebhook
from service import webhook_deliveries, webhooks
from service.egress import MAX_URL
from service.tables import Webhook
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
        max_url=MAX_URL,
        first_page=paging.after is None,
        next_url=f"/webhooks{query(cursor=cursor)}" if cursor else None,
    )


@router.post("/webhooks")
def create_webhook(request: Request, work: WorkDep, form: FormDep) -> HTMLResponse:
    """Make a webhook and show it with its secret."""
    chosen = [name for name in webhooks.EVENT_TYPES if name in form]
    wanted = read_form(NewWebhook, url=form.get("url", ""), event_types=chosen)
    return _with_secret(request, work, webhooks.create(work, wanted.url, wanted.event_types))


@router.get("/webhooks/{webhook_id}")
def webhook_page(
    request: Request, work: ReadDep, paging: PagingDep, webhook_id: IdPath, state: Annotated[State, Query()] = ""
) -> HTMLResponse:
    """One webhook and its messages."""
    return _webhook_page(request, "webhook.html", work, paging, webhook_id, state)


@router.post("/webhooks/{webhook_id}/rotate-secret")
def rotate_secret(request: Request, work: WorkDep, webhook_id: IdPath) -> HTMLResponse:
    """Give a webhook a new secret and show it."""
    return _with_secret(request, work, webhooks.rotate_secret(work, webhook_id))


@router.get("/webhooks/{webhook_id}/live")
def webhook_live(
    request: Request, work: ReadDep, paging: PagingDep, webhook_id: IdPath, state: Annotated[State, Query()] = ""
) -> HTMLResponse:
    """The part of the page that changes, for htmx to swap in."""
    return _webhook_page(request, "_webhook_live.html", work, paging, webhook_id, state)


def _with_secret(request: Request, work: Work, made: Webhook) -> HTMLResponse:
    return _webhook_page(request, "webhook.html", work, Paging(DEFAULT_LIMIT, None), made.id, "", secret=made.secret)


def _webhook_page(
    request: Request,
    template: str,
    work: Work,
    paging: Paging,
    webhook_id: str,
    state: State,
    *,
    secret: str | None = None,
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
        secret=secret,
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


@router.post("/webhooks/{webhook_id}/delete")
def delete(work: WorkDep, webhook_id: IdPath) -> Response:
    """Remove a webhook with its messages and show the others."""
    webhooks.delete(work, webhook_id)
    return RedirectResponse("/webhooks", status_code=303)


@router.post("/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver")
def redeliver(work: WorkDep, webhook_id: IdPath, delivery_id: IdPath) -> Response:
    """Send a message again and show the webhook."""
    webhook_deliveries.redeliver(work, webhook_id, delivery_id)
    return _back(webhook_id)


def _back(webhook_id: str) -> Response:
    return RedirectResponse(f"/webhooks/{webhook_id}", status_code=303)
