"""What docs/webhooks.md says is so: the example verifies, the schedule, events and settings are those of the code."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from service.settings import Settings
from service.webhook_deliveries import MAX_ATTEMPTS, PAUSES, ClaimedDelivery
from service.webhooks import EVENT_TYPES

PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")
SECRETS = ("whsec_" + "A" * 43 + "=", "whsec_" + "B" * 43 + "=")


@pytest.fixture
def verify() -> Any:
    """The function that the page shows."""
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[0], names)
    return names["verify"]


def message(*secrets: str, at: float | None = None) -> ClaimedDelivery:
    moment = datetime.fromtimestamp(at, UTC) if at is not None else datetime.now(UTC)
    return ClaimedDelivery(
        "msg_1", "wh_1", 1, 1, "https://x.test/", "job.failed", '{"name":"é"}'.encode(), moment, secrets
    )


def test_the_example_verifies_what_is_sent_and_nothing_else(verify: Any) -> None:
    sent = message(*SECRETS)
    for secret in SECRETS:
        assert verify(secret, sent.headers(), sent.body)
        assert not verify(secret, sent.headers(), sent.body + b" ")
        assert not verify(secret, sent.headers() | {"webhook-id": "msg_2"}, sent.body)
    assert not verify(SECRETS[1], message(SECRETS[0]).headers(), sent.body)
    assert not verify(SECRETS[0], message(*SECRETS, at=1e9).headers(), sent.body)


def test_the_schedule_the_events_and_the_settings_are_those_of_the_code() -> None:
    said = re.search(r"At once, then (.*?) after", PAGE)
    assert said is not None
    units = {"s": 1, "min": 60, "h": 3600}
    found = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", said[1])]
    assert tuple(found) == PAUSES
    assert MAX_ATTEMPTS == 10
    assert set(re.findall(r"`((?:job|dataset|student|generator)\.[a-z]+)`", PAGE)) == set(EVENT_TYPES)
    fields = {name for name in Settings.model_fields if name.startswith("webhook")}
    assert {name.lower() for name in re.findall(r"\| `LABEL_FACTORY_(WEBHOOK\w*)`", PAGE)} == fields
