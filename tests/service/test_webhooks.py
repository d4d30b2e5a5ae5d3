"""Webhooks as rows: made, changed, disabled, and what they are told."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest

from service import datasets, jobs, students, webhook_deliveries, webhooks
from service.bootstrap import Factory
from service.errors import Conflict, Invalid, NotFound
from service.tables import Webhook, WebhookDelivery
from service.unit_of_work import Work
from tests.factories import make_job, must_claim, new_student, run_to_end

URL = "https://hooks.example.com/labels"


@pytest.fixture(autouse=True)
def _webhooks_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_WEBHOOKS", "true")


def make(factory: Factory, *event_types: Any, url: str = URL) -> Webhook:
    with factory.work() as work:
        return webhooks.create(work, url, event_types or webhooks.EVENT_TYPES)


def sent(factory: Factory, webhook: Webhook) -> list[WebhookDelivery]:
    """Messages to a webhook, oldest first."""
    with factory.read() as work:
        return webhook_deliveries.list_page(work, webhook.id).items[::-1]


def types(factory: Factory, webhook: Webhook) -> list[str]:
    with factory.read() as work:
        return types_in(work, webhook)


def types_in(work: Work, webhook: Webhook) -> list[str]:
    return [row.event_type for row in webhook_deliveries.list_page(work, webhook.id).items[::-1]]


def test_no_webhook_is_made_while_they_are_off(any_factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    webhook = make(any_factory)
    object.__setattr__(any_factory.settings, "webhooks", False)
    with pytest.raises(Conflict, match="LABEL_FACTORY_WEBHOOKS"):
        make(any_factory)
    with pytest.raises(Conflict), any_factory.work() as work:
        webhook_deliveries.ping(work, webhook.id)
    # Events of webhooks that are there still wait to be told: the operator may turn them on again, and a worker need not know.
    job = make_job(any_factory)
    with any_factory.work() as work:
        jobs.cancel(work, job.id)
    assert types(any_factory, webhook) == ["job.cancelled"]


def test_a_job_tells_what_it_made_and_how_it_ended(any_factory: Factory) -> None:
    every, failures = make(any_factory), make(any_factory, "job.failed")
    job = make_job(any_factory)
    run_to_end(any_factory, job.id)
    with any_factory.work() as work:
        result = jobs.get(work, job.id).result
        students.record(work, job.id, new_student(result["dataset_id"]))
    assert types(any_factory, every) == ["job.succeeded", "student.ready"]
    assert types(any_factory, failures) == []
    message = json.loads(sent(any_factory, every)[0].body)
    assert message["type"] == "job.succeeded"
    assert message["timestamp"].endswith("Z")
    assert message["data"] == {
        "job_id": job.id,
        "kind": "label",
        "name": job.name,
        "state": "succeeded",
        "result": result,
    }


def test_a_failure_tells_its_reason_and_a_cancelled_job_that_it_is(any_factory: Factory) -> None:
    from service import steps

    webhook = make(any_factory)
    make_job(any_factory)
    step = must_claim(any_factory)
    with any_factory.work() as work:
        error = {"type": "bad", "title": "Bad", "detail": "x" * 5_000, "status": 500, "secret_path": "/srv"}
        steps.record_failure(work, step.id, step.token, error)
    other = make_job(any_factory)
    with any_factory.work() as work:
        jobs.cancel(work, other.id)
    failed, cancelled = (json.loads(row.body) for row in sent(any_factory, webhook))
    assert (failed["type"], cancelled["type"]) == ("job.failed", "job.cancelled")
    assert failed["data"]["error"] == {
        "type": "bad",
        "title": "Bad",
        "detail": "x" * 1_000,
        "step_id": step.id,
        "step_kind": "fit_head",
    }


def test_an_event_that_is_rolled_back_tells_nobody(any_factory: Factory) -> None:
    webhook = make(any_factory)
    job = make_job(any_factory)
    with suppress(RuntimeError), any_factory.work() as work:
        jobs.cancel(work, job.id)
        assert types_in(work, webhook) == ["job.cancelled"]
        raise RuntimeError
    assert sent(any_factory, webhook) == []


def test_a_webhook_that_is_being_deleted_holds_up_no_job(postgresql_factory: Factory) -> None:
    kept, leaving = make(postgresql_factory), make(postgresql_factory)
    job = make_job(postgresql_factory)
    with postgresql_factory.work() as deleting:
        webhooks.delete(deleting, leaving.id)
        with postgresql_factory.work() as work:
            jobs.cancel(work, job.id)
    assert types(postgresql_factory, kept) == ["job.cancelled"]


def test_changes_and_the_end_of_a_webhook(any_factory: Factory) -> None:
    webhook = make(any_factory)
    with any_factory.work() as work:
        webhook_deliveries.ping(work, webhook.id)
        row = webhooks.change(work, webhook.id, url=URL + "/2", event_types=["job.failed", "job.failed"])
        assert (row.url, row.event_types, row.state) == (URL + "/2", ["job.failed"], "enabled")
        row = webhooks.change(work, webhook.id, enabled=False)
        assert (row.state, row.disabled_reason) == ("disabled", "disabled by hand")
    ping = sent(any_factory, webhook)[0]
    assert (ping.state, ping.last_error) == ("failed", "the webhook is disabled: disabled by hand")
    for send in (lambda w: webhook_deliveries.ping(w, webhook.id), lambda w: redeliver(w, ping)):
        with pytest.raises(Conflict, match="enable it first"), any_factory.work() as work:
            send(work)
    with any_factory.work() as work:
        assert webhooks.change(work, webhook.id, enabled=True).disabled_reason is None
        assert redeliver(work, ping).state == "pending"
        webhooks.delete(work, webhook.id)
    with any_factory.read() as work:
        assert webhook_deliveries.counts(work) == {}
        with pytest.raises(NotFound):
            webhooks.get(work, webhook.id)


def redeliver(work: Work, row: WebhookDelivery) -> WebhookDelivery:
    return webhook_deliveries.redeliver(work, row.webhook_id, row.id)


def test_a_delivery_belongs_to_its_webhook(any_factory: Factory) -> None:
    one, other = make(any_factory), make(any_factory)
    with any_factory.work() as work:
        ping = webhook_deliveries.ping(work, one.id)
        for call in (webhook_deliveries.get, webhook_deliveries.redeliver):
            for delivery_id in (ping.id, "msg_" + "0" * 26, "no id"):
                with pytest.raises(NotFound):
                    call(work, other.id, delivery_id)


def test_an_address_that_cannot_be_is_refused_when_it_is_set(any_factory: Factory) -> None:
    webhook = make(any_factory)
    with any_factory.work() as work:
        with pytest.raises(Invalid) as refused:
            webhooks.create(work, "http://hooks.example.com/", ["job.failed"])
        assert refused.value.errors[0]["place"] == "url"
        with pytest.raises(Invalid):
            webhooks.change(work, webhook.id, url="https://10.0.0.1/")


def test_there_is_a_limit_of_webhooks(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "MAX_WEBHOOKS", 2)
    make(factory), make(factory)
    with pytest.raises(Conflict, match="2 webhooks already"):
        make(factory)


def test_a_sealed_dataset_is_told_with_its_numbers(any_factory: Factory) -> None:
    import numpy as np

    from service import sealing
    from tests.factories import claim, succeed

    webhook = make(any_factory)
    job = make_job(any_factory)
    while (step := claim(any_factory)) is not None and step.kind != "seal_dataset":
        succeed(any_factory, step)
    with any_factory.work() as work:
        dataset = datasets.get(work, jobs.get(work, job.id).result["dataset_id"])
        decisions = sealing.SealDecisions(np.arange(600) < 500, np.ones(600))
        sealing.seal(work, dataset.id, decisions, {})
    message = json.loads(sent(any_factory, webhook)[0].body)
    assert message["type"] == "dataset.sealed"
    assert message["data"] == {
        "dataset_id": dataset.id,
        "job_id": job.id,
        "name": dataset.name,
        "num_images": 600,
        "num_kept": 500,
    }
