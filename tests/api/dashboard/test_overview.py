"""The first page tells who works, on what, and where nobody listens."""

from __future__ import annotations

from service import workers
from service.bootstrap import Factory
from service.workers import SignOfLife
from tests import factories
from tests.clients import api_client


def test_workers_and_their_devices_are_shown(factory: Factory) -> None:
    factories.make_job(factory)
    with api_client(factory, raise_server_exceptions=True) as client:
        before = client.get("/").text
        assert "No worker listens to this queue" in before
        with factory.work() as work:
            for name in ("host:1", "host:2"):
                workers.beat(work, SignOfLife(name, "host<1>", ["gpu"], "NVIDIA H200 0123abcd", 40, 0, 7))
        page = client.get("/").text
    assert "No worker listens to this queue" not in page
    assert page.count("Memory of NVIDIA H200 0123abcd on host&lt;1&gt;") == 1, "two workers share the device"
    assert '<b>2</b> <span class="muted">workers</span>' in page
