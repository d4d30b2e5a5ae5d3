"""Messages arrive at a real HTTPS receiver, signed, at least once, and nowhere else."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from standardwebhooks import Webhook as Verifier

from service.bootstrap import Factory, build_factory
from service.doorbell import ListDoorbell
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID
from tests.clients import api_client
from tests.factories import make_job
from tests.receivers import HOST, Receiver, https_receiver, respond

Json = dict[str, Any]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """Listens on 127.0.0.1."""
    with https_receiver(tmp_path) as receiver:
        yield receiver


def settings_for(receiver: Receiver, tmp_path: Path, migrated_sqlite: Path, **changes: Any) -> Settings:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    (data / "factory.sqlite").write_bytes(migrated_sqlite.read_bytes())
    values = {
        "data_dir": data,
        "webhooks": True,
        "webhook_networks": "127.0.0.1/32,::1/128",
        "webhook_ports": str(receiver.port),
        "webhook_ca_file": receiver.ca_file,
        "webhook_timeout_seconds": 2,
        "webhook_poll_seconds": 0.05,
    }
    return Settings(**{**values, **changes})


@pytest.fixture
def settings(receiver: Receiver, tmp_path: Path, migrated_sqlite: Path) -> Settings:
    """Webhooks may go to the receiver."""
    return settings_for(receiver, tmp_path, migrated_sqlite)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """The API with its courier."""
    factory = build_factory(settings, doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    with api_client(factory, raise_server_exceptions=True) as client:
        client.factory = factory  # type: ignore[attr-defined]
        yield client


def make(client: TestClient | httpx2.Client, url: str) -> Json:
    answer = client.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 201, answer.text
    document: Json = answer.json()
    return document


def ping(client: TestClient, webhook: Json) -> Json:
    document: Json = client.post(f"/v1/webhooks/{webhook['id']}:ping").json()
    return document


def settled(client: TestClient, delivery: Json) -> Json:
    """A delivery once an attempt was recorded."""
    address = f"/v1/webhooks/{delivery['webhook_id']}/deliveries/{delivery['id']}"
    end = time.monotonic() + 60
    while time.monotonic() < end:
        document: Json = client.get(address).json()
        if document["last_status"] is not None or document["last_error"] is not None:
            return document
        time.sleep(0.02)
    raise AssertionError("no attempt was recorded")


def refused_from(message: str, delivery: Json) -> None:
    assert delivery["state"] == "failed"
    assert message in delivery["last_error"]


def test_a_job_that_ends_is_told_with_a_signature_that_verifies(client: TestClient, receiver: Receiver) -> None:
    webhook = make(client, receiver.url())
    factory: Factory = client.factory  # type: ignore[attr-defined]
    job_id = make_job(factory).id
    assert client.post(f"/v1/jobs/{job_id}:cancel").status_code == 200
    message = receiver.next()
    document = Verifier(webhook["secret"]).verify(message.body, message.headers)
    assert (document["type"], document["data"]["job_id"]) == ("job.cancelled", job_id)
    assert (message.path, message.server_name) == ("/hook?to=me", "localhost")
    assert message.headers["host"] == f"localhost:{receiver.port}"
    assert message.headers["content-type"] == "application/json"
    delivery = client.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["items"][0]
    assert message.headers["webhook-id"] == delivery["id"]
    assert (settled(client, delivery)["state"], settled(client, delivery)["last_status"]) == ("delivered", 204)


def test_a_failed_attempt_is_repeated_as_it_was(client: TestClient, receiver: Receiver) -> None:
    statuses = iter([503, 200])
    receiver.answer = lambda handler: respond(handler, next(statuses))
    webhook = make(client, receiver.url())
    client.post(f"/v1/jobs/{make_job(client.factory).id}:cancel")  # type: ignore[attr-defined]
    first, second = receiver.next(), receiver.next()
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) >= 4
    assert Verifier(webhook["secret"]).verify(second.body, second.headers)


def test_gone_disables_the_webhook(client: TestClient, receiver: Receiver) -> None:
    receiver.answer = lambda handler: respond(handler, 410)
    webhook = make(client, receiver.url())
    assert settled(client, ping(client, webhook))["last_status"] == 410
    shown = client.get(f"/v1/webhooks/{webhook['id']}").json()
    assert (shown["state"], shown["disabled_reason"]) == ("disabled", "the receiver answered 410 Gone")


def test_input_55_a_name_that_turns_inside_between_check_and_connection_does_not_move_the_connection(
    client: TestClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look-up says where the receiver is, all later ones say elsewhere; the second message is refused."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != HOST:
            return real(host, *arguments, **options)
        asked.append(host)
        return real("127.0.0.1" if len(asked) == 1 else "169.254.169.254", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    webhook = make(client, receiver.url(HOST))
    assert settled(client, ping(client, webhook))["state"] == "delivered"
    message = receiver.next()
    assert (message.server_name, message.headers["host"]) == (HOST, f"{HOST}:{receiver.port}")
    assert len(asked) == 1
    refused_from("169.254.169.254, which is not on the public internet", settled(client, ping(client, webhook)))
    assert len(asked) == 2
    assert receiver.messages.empty()


def test_input_55_one_bad_address_among_good_ones_is_enough(
    client: TestClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = socket.getaddrinfo

    def both(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != HOST:
            return real(host, *arguments, **options)
        return [*real("127.0.0.1", *arguments, **options), *real("127.0.0.2", *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    refused_from("127.0.0.2", settled(client, ping(client, make(client, receiver.url(HOST)))))
    assert receiver.messages.empty()
    assert "a webhook was refused by the egress guard" in capsys.readouterr().out


def test_input_55_a_redirect_is_not_followed(client: TestClient, receiver: Receiver, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with https_receiver(tmp_path / "other") as inside:
        location = {"Location": inside.url("127.0.0.1")}
        for status in (301, 302, 307, 308):
            receiver.answer = lambda handler, status=status: respond(handler, status, location)  # type: ignore[misc]
            delivery = settled(client, ping(client, make(client, receiver.url())))
            refused_from("redirects are not followed", delivery)
            assert delivery["last_status"] == status
        assert inside.messages.empty()


def test_a_certificate_of_another_name_is_refused(
    client: TestClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is held against the certificate, though the connection goes to an address."""
    real, other = socket.getaddrinfo, "other.example.test"
    here = lambda host, *rest, **options: real("127.0.0.1" if host == other else host, *rest, **options)  # noqa: E731
    monkeypatch.setattr(socket, "getaddrinfo", here)
    delivery = settled(client, ping(client, make(client, receiver.url(other))))
    refused_from(f"certificate is not valid for '{other}'", delivery)
    assert receiver.messages.empty()


def test_a_certificate_of_an_unknown_authority_is_refused(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with https_receiver(tmp_path / "other") as stranger:
        object.__setattr__(client.factory.settings, "webhook_ports", (stranger.port,))  # type: ignore[attr-defined]
        refused_from("unable to get local issuer", settled(client, ping(client, make(client, stranger.url()))))
        assert stranger.messages.empty()


def test_a_receiver_that_drips_is_cut_off_in_time(client: TestClient, receiver: Receiver) -> None:
    released = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            for _ in range(100):
                handler.wfile.write(b"H")
                handler.wfile.flush()
                if released.wait(0.3):
                    return

    receiver.answer = drip
    began = time.monotonic()
    refused_from("no answer within 2 s", settled(client, ping(client, make(client, receiver.url()))))
    assert time.monotonic() - began < 10
    released.set()


def test_an_endless_answer_is_not_read_to_its_end(client: TestClient, receiver: Receiver) -> None:
    written = 0

    def flood(handler: BaseHTTPRequestHandler) -> None:
        nonlocal written
        handler.send_response(200)
        handler.send_header("Content-Length", str(10**12))
        handler.end_headers()
        with suppress(OSError):
            while written < 10**9:
                written += handler.wfile.write(b"x" * 65_536)

    receiver.answer = flood
    assert settled(client, ping(client, make(client, receiver.url())))["state"] == "delivered"
    assert written < 10**8


def test_a_resolver_that_hangs_costs_one_timeout(
    client: TestClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    real = socket.getaddrinfo

    def hanging(host: Any, *arguments: Any, **options: Any) -> Any:
        if host == HOST:
            released.wait(30)
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    refused_from("was not resolved within 2 s", settled(client, ping(client, make(client, receiver.url(HOST)))))
    released.set()


def test_a_receiver_that_is_away_is_named_in_the_error(client: TestClient, receiver: Receiver) -> None:
    receiver.answer = lambda handler: handler.connection.close()
    delivery = settled(client, ping(client, make(client, receiver.url())))
    assert (delivery["state"], delivery["last_status"]) == ("failed", None)


def test_slow_receivers_do_not_hold_up_others(client: TestClient, receiver: Receiver, tmp_path: Path) -> None:
    released = threading.Event()
    receiver.answer = lambda handler: (released.wait(30), respond(handler, 204))[1]
    slow = make(client, receiver.url())
    waiting = [ping(client, slow) for _ in range(5)]
    receiver.next()
    fast = make(client, receiver.url("127.0.0.1"))
    receiver.answer = lambda handler: respond(handler, 204)
    assert settled(client, ping(client, fast))["state"] == "delivered"
    states = [client.get(f"/v1/webhooks/{slow['id']}/deliveries/{one['id']}").json()["state"] for one in waiting[1:]]
    assert states == ["pending"] * 4
    released.set()


def test_kill_9_in_the_middle_of_a_delivery_sends_it_again_under_its_id(
    settings: Settings, receiver: Receiver, tmp_path: Path
) -> None:
    """A real API process is killed after the receiver has the message and before it answers."""
    factory = build_factory(settings, doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    job_id = make_job(factory).id
    factory.close()
    held, released = threading.Event(), threading.Event()

    def hold(handler: BaseHTTPRequestHandler) -> None:
        held.set()
        released.wait(60)

    receiver.answer = hold
    with api_process(settings, receiver) as (first, http):
        webhook = make(http, receiver.url())
        assert http.post(f"/v1/jobs/{job_id}:cancel").status_code == 200
        assert held.wait(30)
        first.send_signal(signal.SIGKILL)
        first.wait(30)
    released.set()
    receiver.answer = lambda handler: respond(handler, 200)
    with api_process(settings, receiver) as (_, http):
        lost, again = receiver.next(), receiver.next()
        assert (lost.headers["webhook-id"], lost.body) == (again.headers["webhook-id"], again.body)
        assert Verifier(webhook["secret"]).verify(again.body, again.headers)["data"]["job_id"] == job_id
        listed = http.get(f"/v1/webhooks/{webhook['id']}/deliveries").json()["items"]
        assert settled(http, listed[0])["state"] == "delivered"  # type: ignore[arg-type]
        assert len(listed) == 1


class api_process:  # noqa: N801
    """The API as a process of its own, for the length of a `with` block."""

    def __init__(self, settings: Settings, receiver: Receiver) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.environment = os.environ | {
            "LABEL_FACTORY_DATA_DIR": str(settings.data_dir),
            "LABEL_FACTORY_WEBHOOKS": "true",
            "LABEL_FACTORY_WEBHOOK_NETWORKS": "127.0.0.0/8,::1/128",
            "LABEL_FACTORY_WEBHOOK_PORTS": str(receiver.port),
            "LABEL_FACTORY_WEBHOOK_CA_FILE": str(receiver.ca_file),
            "LABEL_FACTORY_WEBHOOK_TIMEOUT_SECONDS": "1",
        }

    def __enter__(self) -> tuple[subprocess.Popen[bytes], httpx2.Client]:
        command = [sys.executable, "-m", "api.main", "--port", str(self.port)]
        self.process = subprocess.Popen(command, env=self.environment)
        self.http = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            with suppress(httpx2.HTTPError):
                if self.http.get("/readyz").is_success:
                    key = Path(self.environment["LABEL_FACTORY_DATA_DIR"], "api-key").read_text().strip()
                    self.http.headers["authorization"] = f"Bearer {key}"
                    return self.process, self.http
            time.sleep(0.1)
        raise AssertionError("the API did not start")

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.process.terminate()
        self.process.wait(30)
