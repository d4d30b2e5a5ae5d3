"""Webhooks over REST."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

URL = "https://hooks.example.com/labels"


@pytest.fixture(autouse=True)
def _webhooks_are_on_but_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    from api import app

    class Idle:
        def __init__(self, _factory: object) -> None: ...
        def start(self) -> None: ...
        def stop(self) -> None: ...

    monkeypatch.setenv("LABEL_FACTORY_WEBHOOKS", "true")
    monkeypatch.setattr(app, "WebhookCourier", Idle)


def make(client: TestClient, **changes: Any) -> dict[str, Any]:
    answer = client.post("/v1/webhooks", json={"url": URL, **changes})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/webhooks/{answer.json()['id']}"
    document: dict[str, Any] = answer.json()
    return document


def test_the_secret_is_shown_once(client: TestClient) -> None:
    made = make(client)
    assert made["secret"].startswith("whsec_")
    shown = client.get(f"/v1/webhooks/{made['id']}").json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert client.get("/v1/webhooks").json()["items"] == [shown]
    rotated = client.post(f"/v1/webhooks/{made['id']}:rotate-secret").json()
    assert rotated["secret"] not in ("", made["secret"])
    assert rotated["previous_secret_until"] is not None
    assert made["secret"] not in client.get("/v1/webhooks").text


def test_a_webhook_is_changed_disabled_and_removed(client: TestClient) -> None:
    address = f"/v1/webhooks/{make(client, event_types=['job.failed'])['id']}"
    changed = client.patch(address, json={"url": URL + "/2", "enabled": False}).json()
    assert (changed["url"], changed["event_types"]) == (URL + "/2", ["job.failed"])
    assert (changed["state"], changed["disabled_reason"]) == ("disabled", "disabled by hand")
    assert client.post(f"{address}:ping").status_code == 409
    assert client.patch(address, json={"enabled": True}).json()["state"] == "enabled"
    assert client.delete(address).status_code == 204
    for answer in (client.get(address), client.delete(address), client.get(f"{address}/deliveries")):
        assert answer.status_code == 404


def test_a_ping_is_a_delivery_that_can_be_sent_again(client: TestClient) -> None:
    address = f"/v1/webhooks/{make(client)['id']}"
    answer = client.post(f"{address}:ping")
    assert answer.status_code == 202
    ping = answer.json()
    assert ping["payload"]["type"] == ping["event_type"] == "webhook.ping"
    assert (ping["state"], ping["attempts"]) == ("pending", 0)
    assert client.get(f"{address}/deliveries").json()["items"] == [ping]
    assert client.get(f"{address}/deliveries", params={"state": "failed"}).json()["items"] == []
    assert client.get(f"{address}/deliveries/{ping['id']}").json() == ping
    assert client.post(f"{address}/deliveries/{ping['id']}:redeliver").status_code == 202
    assert client.post(f"{address}/deliveries/msg_{'0' * 26}:redeliver").status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://127.1/",
        "https://127.1/",
        "https://127.0.0.1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://[fd00:ec2::254]/latest/meta-data/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://0/",
        "https://0.0.0.0/",
        "https://[64:ff9b::7f00:1]/",
        "https://localhost/",
        "https://a.localhost/",
        "https://user@hooks.example.com/",
        "https://hooks.example.com:8080/",
        "http://hooks.example.com/",
        "gopher://hooks.example.com/",
    ],
    ids=lambda url: re.sub(r"\W+", "-", url),
)
def test_input_54_a_webhook_that_points_inside_is_refused(client: TestClient, url: str) -> None:
    webhook_id = make(client)["id"]
    for answer in (
        client.post("/v1/webhooks", json={"url": url}),
        client.patch(f"/v1/webhooks/{webhook_id}", json={"url": url}),
    ):
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["errors"][0]["place"] == "url"
    assert [item["url"] for item in client.get("/v1/webhooks").json()["items"]] == [URL]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": 5},
        {"url": "x" * 1_001},
        {"url": URL, "event_types": []},
        {"url": URL, "event_types": ["job.exploded"]},
        {"url": URL, "event_types": ["job.failed"] * 100},
        {"url": URL, "secret": "whsec_mine"},
        {"url": URL, "state": "enabled"},
    ],
)
def test_a_bad_webhook_leaves_nothing(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/v1/webhooks", json=body).status_code == 422
    assert client.get("/v1/webhooks").json()["items"] == []


def test_webhooks_are_off_unless_the_operator_turns_them_on(
    client: TestClient, factory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    object.__setattr__(factory.settings, "webhooks", False)
    answer = client.post("/v1/webhooks", json={"url": URL})
    assert answer.status_code == 409
    assert "LABEL_FACTORY_WEBHOOKS=true" in answer.json()["detail"]
    assert client.get("/v1/webhooks").json()["items"] == []
