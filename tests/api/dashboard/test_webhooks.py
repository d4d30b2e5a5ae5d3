"""The pages of webhooks and what a visitor can do there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from service import webhook_deliveries, webhooks
from service.bootstrap import Factory
from service.clock import database_now
from service.tables import WebhookDelivery
from tests.api.dashboard.test_pages import Page
from tests.clients import api_client

URL = "https://hooks.example.com/labels"
OWN_PAGE = {"sec-fetch-site": "same-origin"}


@pytest.fixture
def visitor(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A browser that does not follow where it is sent; nothing is sent to webhooks."""
    with api_client(factory, raise_server_exceptions=True, follow_redirects=False) as client:
        object.__setattr__(factory.settings, "webhooks", True)
        yield client


@pytest.fixture
def webhook_id(visitor: TestClient, factory: Factory) -> str:
    with factory.work() as work:
        return webhooks.create(work, URL, webhooks.EVENT_TYPES).id


def act(visitor: TestClient, webhook_id: str, verb: str) -> None:
    answer = visitor.post(f"/webhooks/{webhook_id}/{verb}", headers=OWN_PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/webhooks/{webhook_id}")


def test_the_list_says_when_webhooks_are_off(visitor: TestClient, factory: Factory) -> None:
    assert "Webhooks are off" not in visitor.get("/webhooks").text
    object.__setattr__(factory.settings, "webhooks", False)
    assert "LABEL_FACTORY_WEBHOOKS=true" in visitor.get("/webhooks").text


def test_a_webhook_is_made_gets_a_new_secret_and_goes(visitor: TestClient, factory: Factory) -> None:
    assert 'name="job.failed"' in visitor.get("/webhooks").text
    wanted = {"url": URL, "job.failed": "on", "job.cancelled": "on"}
    page = visitor.post("/webhooks", data=wanted, headers=OWN_PAGE)
    assert page.status_code == 200
    with factory.read() as work:
        (row,) = webhooks.list_page(work).items
    assert (row.url, row.event_types) == (URL, ["job.failed", "job.cancelled"])
    assert row.secret in page.text
    address = f"/webhooks/{row.id}"
    assert row.secret not in visitor.get(address).text + visitor.get("/webhooks").text
    page = visitor.post(f"{address}/rotate-secret", headers=OWN_PAGE)
    with factory.read() as work:
        changed = webhooks.get(work, row.id)
    assert changed.secret != row.secret
    assert changed.secret in page.text
    assert row.secret not in page.text
    answer = visitor.post(f"{address}/delete", headers=OWN_PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, "/webhooks")
    assert "No webhooks yet" in visitor.get("/webhooks").text


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"url": URL}, "event_types"),
        ({"url": "http://hooks.example.com/", "job.failed": "on"}, "https"),
        ({"url": "https://127.0.0.1/", "job.failed": "on"}, "127.0.0.1"),
        ({"job.failed": "on"}, "url"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_and_says_why(
    visitor: TestClient, factory: Factory, form: dict[str, str], words: str
) -> None:
    page = visitor.post("/webhooks", data=form, headers=OWN_PAGE)
    assert page.status_code == 422
    assert words in page.text
    with factory.read() as work:
        assert webhooks.list_page(work).items == []


def test_ping_redeliver_disable_and_enable(visitor: TestClient, factory: Factory, webhook_id: str) -> None:
    address = f"/webhooks/{webhook_id}"
    assert "No messages here" in visitor.get(address).text
    act(visitor, webhook_id, "ping")
    with factory.work() as work:
        claimed = webhook_deliveries.claim(work)
        assert claimed is not None
        webhook_deliveries.record_failure(work, claimed, "the receiver answered 503 <b>", 503)
    page = visitor.get(address).text
    assert "the receiver answered 503 &lt;b&gt;" in page
    assert "Again" in page
    message = visitor.get(f"{address}/deliveries/{claimed.id}").text
    assert "the receiver answered 503 &lt;b&gt;" in message
    assert f"&#34;webhook_id&#34;: &#34;{webhook_id}&#34;" in message
    assert "1 of 1" in message
    act(visitor, webhook_id, f"deliveries/{claimed.id}/redeliver")
    with factory.read() as work:
        assert webhook_deliveries.get(work, webhook_id, claimed.id).state == "pending"
    act(visitor, webhook_id, "disable")
    page = visitor.get(address).text
    assert "Disabled by hand" in page
    assert "/redeliver" not in page
    assert visitor.post(f"{address}/ping").status_code == 409
    act(visitor, webhook_id, "enable")
    assert "Disabled by hand" not in visitor.get(address).text


def test_a_failing_webhook_is_seen_and_its_messages_say_when_they_come_again(
    visitor: TestClient, factory: Factory, webhook_id: str
) -> None:
    act(visitor, webhook_id, "ping")
    with factory.work() as work:
        work.session.execute(update(WebhookDelivery).values(event_type="job.failed"))
        claimed = webhook_deliveries.claim(work)
        assert claimed is not None
        webhook_deliveries.record_failure(work, claimed, "no answer within 5 s")
        work.session.execute(update(WebhookDelivery).values(next_attempt_at=database_now(7_500)))
    assert "failing" in visitor.get("/webhooks").text
    page = visitor.get(f"/webhooks/{webhook_id}").text
    assert "nothing has arrived since" in page
    assert "in 2 h 0" in page
    assert 'hx-trigger="every 2s"' in page
    assert visitor.get(f"/webhooks/{webhook_id}?state=failed").text.count("<tr>") == 0


def test_another_site_cannot_act_and_pages_keep_their_policy(
    visitor: TestClient, factory: Factory, webhook_id: str
) -> None:
    for verb in ("ping", "disable", "enable", f"deliveries/msg_{'0' * 26}/redeliver"):
        answer = visitor.post(f"/webhooks/{webhook_id}/{verb}", headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403
    with factory.work() as work:
        delivery_id = webhook_deliveries.ping(work, webhook_id).id
    address = f"/webhooks/{webhook_id}"
    for path in ("/webhooks", address, f"{address}/live?state=pending", f"{address}/deliveries/{delivery_id}"):
        answer = visitor.get(path)
        assert (answer.status_code, Page(answer.text).refused) == (200, [])
        assert "whsec_" not in answer.text
    assert visitor.get("/webhooks/wh_none").status_code == 404
