"""Budgets per client: spent at once, refilled evenly, told in Retry-After."""

from __future__ import annotations

import time

import pytest
from fastapi.testclient import TestClient

from api.rate_limit import MAX_CLIENTS, Budget
from service.bootstrap import Factory, build_factory
from service.doorbell import ListDoorbell
from tests.clients import api_client, api_key, with_key


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_is_spent_at_once_and_comes_back_evenly() -> None:
    clock = Clock()
    budget = Budget(60, clock)
    assert [budget.spend("a") for _ in range(60)] == [0.0] * 60
    assert budget.spend("a") == pytest.approx(1.0)
    assert budget.spend("b") == 0.0
    clock.now += 1.0
    assert budget.spend("a") == 0.0
    assert budget.spend("a") == pytest.approx(1.0)
    clock.now += 3600.0
    assert [budget.spend("a") for _ in range(60)] == [0.0] * 60
    assert budget.spend("a") > 0


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    budget = Budget(1, clock)
    budget.spend("a")
    assert [budget.spend("a") for _ in range(5)] == pytest.approx([60.0] * 5)
    clock.now += 60.0
    assert budget.spend("a") == 0.0


def test_clients_with_a_full_budget_are_forgotten() -> None:
    clock = Clock()
    budget = Budget(6_000, clock)
    for number in range(MAX_CLIENTS):
        budget.spend(str(number))
    clock.now += 61.0
    budget.spend("new")
    assert len(budget._full_at) == 1


@pytest.fixture
def limited(factory: Factory) -> TestClient:
    """A service where a client may ask five times a minute and change something twice."""
    settings = factory.settings.model_copy(update={"requests_per_minute": 5, "changes_per_minute": 2})
    return api_client(build_factory(settings, doorbell=ListDoorbell()))


def test_too_many_requests_are_429_with_the_time_to_wait(limited: TestClient) -> None:
    assert [limited.get("/v1/jobs").status_code for _ in range(5)] == [200] * 5
    answer = limited.get("/v1/jobs")
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("too-many-requests")
    assert 1 <= int(answer.headers["retry-after"]) <= 12
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_keys_have_budgets_of_their_own(limited: TestClient, factory: Factory) -> None:
    other = {"authorization": f"Bearer {api_key(factory, 'read')}"}
    for _ in range(6):
        limited.get("/v1/jobs")
    assert limited.get("/v1/jobs").status_code == 429
    assert limited.get("/v1/jobs", headers=other).status_code == 200


def test_an_address_without_a_good_key_is_429_in_the_end(factory: Factory) -> None:
    settings = factory.settings.model_copy(update={"refusals_per_minute": 3})
    client = with_key(build_factory(settings, doorbell=ListDoorbell()), "lf_wrong")
    assert [client.get("/v1/jobs").status_code for _ in range(4)] == [401, 401, 401, 429]
    assert client.get("/healthz").status_code == 200


def test_changes_have_a_budget_of_their_own(limited: TestClient) -> None:
    answers = [limited.post("/v1/image-pools", json={"name": "p"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201, 201, 429]
    assert len(limited.get("/v1/image-pools").json()["items"]) == 2


def test_probes_and_assets_are_free(limited: TestClient) -> None:
    for _ in range(8):
        assert limited.get("/healthz").status_code == 200
        assert limited.get("/metrics").status_code == 200
    assert limited.get("/v1/jobs").status_code == 200


def test_a_thousand_decisions_cost_little() -> None:
    budget = Budget(12_000)
    started = time.process_time()
    for _ in range(1_000):
        budget.spend("a")
    assert time.process_time() - started < 0.1
