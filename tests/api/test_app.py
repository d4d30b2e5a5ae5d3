"""The application as a whole: headers, no torch, a quick start."""

from __future__ import annotations

import subprocess
import sys

import pytest
from fastapi.testclient import TestClient

from api.security_headers import DEFAULTS

LOADED = """
import sys, time
import api.main, api.app, api.openapi
heavy = {"torch", "diffusers", "transformers", "scipy", "skimage", "celery", "workers", "models"} & set(sys.modules)
print(sorted(heavy), time.process_time())
"""


def test_the_api_starts_light_and_quickly() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=120)
    heavy, _, seconds = done.stdout.strip().rpartition(" ")
    assert heavy == "[]"
    # About a second of one core; the margin is for slow machines.
    assert float(seconds) < 5


@pytest.mark.parametrize("path", ["/healthz", "/v1/jobs", "/v1/nothing", "/v1/jobs?limit=0"])
def test_every_answer_carries_the_security_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert {name: headers.get(name) for name in DEFAULTS} == DEFAULTS


def test_the_frameworks_own_pages_that_load_scripts_from_elsewhere_are_off(client: TestClient) -> None:
    for path in ("/docs", "/redoc"):
        assert "cdn." not in client.get(path).text
    assert client.get("/openapi.json").json()["info"]["title"] == "Label Factory"
