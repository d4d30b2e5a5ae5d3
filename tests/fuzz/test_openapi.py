"""Schemathesis over the whole OpenAPI document of a real server: no 5xx, no status, type or shape that is not declared.

Once with a key of each scope; `make fuzz` gives each more time (FUZZ_SECONDS). What it found once is a test of its own beside the code it was found in.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import announcements, students
from service.bootstrap import build_factory, prepare
from service.caller import Scope
from service.clock import utc_now
from service.doorbell import ListDoorbell
from service.settings import Settings
from service.tables import DEFAULT_WORKSPACE_ID
from tests import factories
from tests.api.archives import mask_files, zipped
from tests.api.inputs.served import Served, serve
from tests.clients import api_key

SECONDS = int(os.environ.get("FUZZ_SECONDS", "40"))
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A service that does not count requests, and whose webhooks may go to no port that is made up."""
    limits = {"requests_per_minute": 10**6, "changes_per_minute": 10**6}
    settings = Settings(data_dir=tmp_path / "data", webhooks=True, webhook_ports=(1,), **limits)
    factory = build_factory(settings, doorbell=ListDoorbell()).within(DEFAULT_WORKSPACE_ID)
    prepare(factory)
    with serve(factory, {"Authorization": f"Bearer {api_key(factory)}"}) as served:
        yield served
    factory.close()


def things(served: Served) -> dict[str, str]:
    """One of each kind that the API can show, by the name of its path parameter."""
    few = served.taken_zip(zipped(mask_files()))
    dataset = factories.make_dataset(served.factory)
    with served.factory.work() as work:
        pool = factories.make_pool(work, sealed=False)
        generator = factories.make_generator(work)
        student = students.record(work, dataset.job_id, factories.new_student(dataset.id))
        webhook = factories.make_webhook(work)
        delivery = announcements.add(work, webhook, "webhook.ping", {}, utc_now())
    return {
        "set_id": few["id"],
        "dataset_id": dataset.id,
        "job_id": dataset.job_id,
        "pool_id": pool.id,
        "generator_id": generator.id,
        "student_id": student.id,
        "webhook_id": webhook.id,
        "delivery_id": delivery.id,
    }


@pytest.mark.timeout(SECONDS * 3 + 600)
@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_no_server_error_and_no_undocumented_answer(served: Served, tmp_path: Path, scope: Scope) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "FUZZ_IDS": json.dumps(things(served)),
    }
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{served.port}/openapi.json"),
        *("--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS), "--max-time", str(SECONDS)),
        *("--generation-database", "none", "--continue-on-failure", "--warnings", "off", "--no-color"),
        *("--header", f"Authorization: Bearer {api_key(served.factory, scope)}"),
    ]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4_000:]
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated is not None
    assert int(generated[1]) > 50
    scratch = served.factory.settings.resolved_scratch_dir
    assert list(scratch.iterdir()) == []
