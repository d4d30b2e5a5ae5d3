"""Deliveries: claimed once, signed, tried on a schedule, given up, and never lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from service import announcements, webhook_deliveries, webhooks
from service.bootstrap import Factory
from service.clock import database_now, read_clock
from service.errors import LeaseLost
from service.tables import Webhook, WebhookDelivery
from service.webhook_deliveries import MAX_ATTEMPTS, PAUSES, ClaimedDelivery

URL = "https://hooks.example.com/labels"


@pytest.fixture(autouse=True)
def _webhooks_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_WEBHOOKS", "true")


def make(factory: Factory, *, num_messages: int = 1) -> tuple[Webhook, list[str]]:
    """A webhook with messages that are due."""
    with factory.work() as work:
        webhook = webhooks.create(work, URL, ["job.failed"])
        now = read_clock(work.session)
        ids = [announcements.add(work, webhook, "job.failed", {"n": n}, now).id for n in range(num_messages)]
    return webhook, sorted(ids)


def claim(factory: Factory) -> ClaimedDelivery | None:
    with factory.work() as work:
        return webhook_deliveries.claim(work)


def must_claim(factory: Factory) -> ClaimedDelivery:
    claimed = claim(factory)
    assert claimed is not None
    return claimed


def fail(factory: Factory, claimed: ClaimedDelivery, status: int | None = 503) -> WebhookDelivery:
    with factory.work() as work:
        return webhook_deliveries.record_failure(work, claimed, f"answered {status}", status)


def now(factory: Factory, claimed: ClaimedDelivery) -> tuple[Webhook, WebhookDelivery]:
    with factory.read() as work:
        row = webhook_deliveries.get(work, claimed.webhook_id, claimed.id)
        return webhooks.get(work, claimed.webhook_id), row


def shift(factory: Factory, table: Any, **values: float) -> None:
    """Set times of all rows to so many seconds from now."""
    with factory.work() as work:
        work.session.execute(update(table).values({name: database_now(value) for name, value in values.items()}))


def test_of_many_that_look_one_gets_it(any_factory: Factory) -> None:
    make(any_factory)
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda _: claim(any_factory), range(16)))
    assert len([one for one in claimed if one is not None]) == 1
    with any_factory.read() as work:
        assert not webhook_deliveries.is_any_due(work)


def test_one_message_at_a_time_goes_to_a_webhook_and_others_do_not_wait(any_factory: Factory) -> None:
    slow, _ = make(any_factory, num_messages=3)
    other, _ = make(any_factory)
    first, second = must_claim(any_factory), must_claim(any_factory)
    assert {first.webhook_id, second.webhook_id} == {slow.id, other.id}
    assert claim(any_factory) is None
    mine = first if first.webhook_id == slow.id else second
    with any_factory.work() as work:
        webhook_deliveries.record_success(work, mine, 200)
    assert must_claim(any_factory).webhook_id == slow.id


def test_a_message_of_a_killed_process_is_sent_again_under_its_id(any_factory: Factory) -> None:
    make(any_factory)
    lost = must_claim(any_factory)
    shift(any_factory, WebhookDelivery, lease_until=-1)
    again = must_claim(any_factory)
    assert (again.id, again.body, again.attempt) == (lost.id, lost.body, 2)
    for late in (
        lambda work: webhook_deliveries.record_success(work, lost, 200),
        lambda work: webhook_deliveries.record_failure(work, lost, "late"),
    ):
        with pytest.raises(LeaseLost), any_factory.work() as work:
            late(work)
    with any_factory.work() as work:
        webhook_deliveries.record_success(work, again, 204)
    row = now(any_factory, again)[1]
    assert (row.state, row.last_status, row.lease_until) == ("delivered", 204, None)
    assert row.finished_at is not None


def test_a_message_that_kills_whoever_sends_it_is_given_up(any_factory: Factory) -> None:
    make(any_factory)
    for _ in range(MAX_ATTEMPTS):
        claimed = must_claim(any_factory)
        shift(any_factory, WebhookDelivery, lease_until=-1)
    assert claim(any_factory) is None
    row = now(any_factory, claimed)[1]
    assert (row.state, row.last_error) == ("failed", "whoever sent it was killed, every time")


def test_failures_are_tried_again_on_the_recommended_schedule(any_factory: Factory) -> None:
    make(any_factory)
    for pause in PAUSES:
        claimed = must_claim(any_factory)
        row = fail(any_factory, claimed)
        with any_factory.read() as work:
            wait = row.next_attempt_at - read_clock(work.session)
        assert timedelta(seconds=pause - 5) < wait <= timedelta(seconds=pause * 1.1)
        assert (row.state, row.last_status, row.last_error) == ("pending", 503, "answered 503")
        assert claim(any_factory) is None
        shift(any_factory, WebhookDelivery, next_attempt_at=0)
    row = fail(any_factory, must_claim(any_factory), None)
    assert (row.state, row.attempts, row.last_status) == ("failed", 10, None)
    assert sum(PAUSES) > webhook_deliveries.FAILING_SECONDS
    # All of this took no time, so the receiver had no days to come back.
    assert now(any_factory, claimed)[0].state == "enabled"


def test_after_days_without_a_delivery_the_webhook_is_disabled(any_factory: Factory) -> None:
    make(any_factory, num_messages=3)
    first = must_claim(any_factory)
    fail(any_factory, first)
    shift(any_factory, Webhook, failing_since=-webhook_deliveries.FAILING_SECONDS)
    with any_factory.work() as work:
        work.session.execute(update(WebhookDelivery).values(attempts=MAX_ATTEMPTS - 1, next_attempt_at=database_now()))
    fail(any_factory, must_claim(any_factory))
    webhook, row = now(any_factory, first)
    assert (webhook.state, row.state) == ("disabled", "failed")
    assert webhook.disabled_reason is not None
    assert webhook.disabled_reason.startswith("nothing was delivered since ")
    with any_factory.read() as work:
        assert webhook_deliveries.counts(work) == {"failed": 3}


def test_a_success_ends_the_failing(any_factory: Factory) -> None:
    make(any_factory)
    claimed = must_claim(any_factory)
    fail(any_factory, claimed)
    assert now(any_factory, claimed)[0].failing_since is not None
    shift(any_factory, WebhookDelivery, next_attempt_at=0)
    with any_factory.work() as work:
        webhook_deliveries.record_success(work, must_claim(any_factory), 200)
    assert now(any_factory, claimed)[0].failing_since is None


def test_gone_disables_at_once(any_factory: Factory) -> None:
    make(any_factory, num_messages=2)
    claimed = must_claim(any_factory)
    fail(any_factory, claimed, 410)
    webhook, row = now(any_factory, claimed)
    assert (webhook.state, webhook.disabled_reason) == ("disabled", "the receiver answered 410 Gone")
    assert (row.state, row.last_status) == ("failed", 410)
    assert claim(any_factory) is None


def test_what_was_on_its_way_when_the_webhook_was_disabled_is_still_recorded(any_factory: Factory) -> None:
    webhook, _ = make(any_factory)
    claimed = must_claim(any_factory)
    with any_factory.work() as work:
        webhooks.change(work, webhook.id, enabled=False)
        webhook_deliveries.record_success(work, claimed, 200)
    assert now(any_factory, claimed)[1].state == "delivered"


def test_a_ping_is_tried_once_and_condemns_nobody(any_factory: Factory) -> None:
    webhook, _ = make(any_factory, num_messages=0)
    with any_factory.work() as work:
        webhook_deliveries.ping(work, webhook.id)
    claimed = must_claim(any_factory)
    assert fail(any_factory, claimed).state == "failed"
    assert now(any_factory, claimed)[0].failing_since is None


def test_redelivery_begins_anew_under_the_same_id(any_factory: Factory) -> None:
    webhook, _ = make(any_factory)
    claimed = must_claim(any_factory)
    with any_factory.work() as work:  # on its way: left alone
        assert webhook_deliveries.redeliver(work, webhook.id, claimed.id).attempts == 1
        webhook_deliveries.record_success(work, claimed, 200)
        row = webhook_deliveries.redeliver(work, webhook.id, claimed.id)
        assert (row.state, row.attempts, row.finished_at) == ("pending", 0, None)
    again = must_claim(any_factory)
    assert (again.id, again.attempt) == (claimed.id, 1)
    assert again.token > claimed.token


def test_messages_are_signed_by_the_secrets_that_hold(any_factory: Factory) -> None:
    webhook, _ = make(any_factory, num_messages=1)
    with any_factory.work() as work:
        rotated = webhooks.rotate_secret(work, webhook.id)
    assert rotated.secret != webhook.secret
    claimed = must_claim(any_factory)
    headers = claimed.headers()
    assert headers["webhook-id"] == claimed.id
    for secret in (webhook.secret, rotated.secret):
        assert Verifier(secret).verify(claimed.body, headers)["data"] == {"n": 0}
    shift(any_factory, Webhook, previous_secret_until=-1)
    shift(any_factory, WebhookDelivery, lease_until=-1)
    headers = must_claim(any_factory).headers()
    assert Verifier(rotated.secret).verify(claimed.body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(webhook.secret).verify(claimed.body, headers)
    assert webhook.secret not in repr(claimed)


def test_signatures_do_not_depend_on_the_machines_time_zone(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    webhook, _ = make(factory)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        claimed = must_claim(factory)
        assert Verifier(webhook.secret).verify(claimed.body, claimed.headers())
    finally:
        monkeypatch.undo()
        time.tzset()


def test_messages_that_ended_long_ago_are_forgotten(any_factory: Factory) -> None:
    _, ids = make(any_factory, num_messages=2)
    with any_factory.work() as work:
        webhook_deliveries.record_success(work, must_claim_in(any_factory, ids[0]), 200)
    shift(any_factory, WebhookDelivery, finished_at=-webhook_deliveries.KEPT_SECONDS - 1)
    with any_factory.work() as work:
        assert webhook_deliveries.prune(work) == 1
        assert webhook_deliveries.counts(work) == {"pending": 1}


def must_claim_in(factory: Factory, delivery_id: str) -> ClaimedDelivery:
    claimed = must_claim(factory)
    assert claimed.id == delivery_id
    return claimed
