"""`label-factory webhooks` against a served API."""

from __future__ import annotations

import json

import pytest

from tests.cli.test_commands import run

ADDRESS = "https://hooks.example.test/labels"


@pytest.fixture(autouse=True)
def _webhooks_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_WEBHOOKS", "true")
    # The name does not exist; nobody should wait for the machine's resolver to find out.
    monkeypatch.setenv("LABEL_FACTORY_WEBHOOK_TIMEOUT_SECONDS", "0.1")


def test_a_webhook_from_its_making_to_its_end(url: str) -> None:
    made = json.loads(run("webhooks", "create", ADDRESS, "--event", "job.failed", "--json", url=url).stdout)
    assert (made["event_types"], made["secret"][:6]) == (["job.failed"], "whsec_")
    webhook_id = made["id"]
    assert webhook_id in run("webhooks", "list", url=url).stdout
    assert "whsec_" not in run("webhooks", "show", webhook_id, url=url).stdout
    assert "job.succeeded" in run("webhooks", "update", webhook_id, "--event", "job.sealed", url=url).stderr
    assert "dataset.sealed" in run("webhooks", "update", webhook_id, "--event", "dataset.sealed", url=url).stdout
    ping = json.loads(run("webhooks", "ping", webhook_id, "--json", url=url).stdout)
    assert ping["id"] in run("webhooks", "deliveries", webhook_id, url=url).stdout
    assert run("webhooks", "redeliver", webhook_id, ping["id"], url=url).returncode == 0
    assert "whsec_" in run("webhooks", "rotate-secret", webhook_id, url=url).stdout
    assert "disabled by hand" in run("webhooks", "disable", webhook_id, url=url).stdout
    refused = run("webhooks", "ping", webhook_id, url=url)
    assert (refused.returncode, "enable it first" in refused.stderr) == (1, True)
    assert "enabled" in run("webhooks", "enable", webhook_id, url=url).stdout
    assert webhook_id in run("webhooks", "delete", webhook_id, url=url).stdout
    assert json.loads(run("webhooks", "list", "--json", url=url).stdout) == []


def test_what_is_refused_is_said_in_one_line(url: str) -> None:
    answer = run("webhooks", "create", "https://10.0.0.1/", url=url)
    assert answer.returncode == 1
    assert "url: The host 10.0.0.1 has the address 10.0.0.1, which is not on the public internet" in answer.stderr
    assert "--address or --event" in run("webhooks", "update", "wh_x", url=url).stderr
