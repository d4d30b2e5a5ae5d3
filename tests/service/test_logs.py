"""Every line is one JSON object, ours or a library's, with the ids that are bound to the context."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from service.bootstrap import Factory
from service.logs import configure_logging
from service.settings import Settings
from tests import factories


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert not captured.out
    return [json.loads(line) for line in captured.err.splitlines()]


def test_lines_of_ours_and_of_libraries_carry_the_ids(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_json=True))
    with structlog.contextvars.bound_contextvars(job_id="job_1", step_id="step_1"):
        structlog.get_logger("workers.runtime").info("step begins", batch=3)
        logging.getLogger("celery.worker").info("Started %s", "well")
        logging.getLogger("some.library").warning("odd")
        logging.getLogger("some.library").info("chatter")
        warnings.warn("old style", stacklevel=1)
    found = lines(capsys)
    assert [line["event"] for line in found[:3]] == ["step begins", "Started well", "odd"]
    assert "old style" in str(found[3]["event"])
    assert len(found) == 4
    for line in found:
        assert (line["job_id"], line["step_id"]) == ("job_1", "step_1")
        assert line["level"] in ("info", "warning")
        assert str(line["timestamp"]).endswith("Z")
    assert found[0]["batch"] == 3
    assert found[0]["logger"] == "workers.runtime"


def test_a_crash_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_json=True))
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("api").exception("request crashed")
        logging.getLogger("celery").exception("task crashed")
    for line in lines(capsys):
        assert "ValueError: broken" in str(line["exception"])


def test_values_that_json_does_not_know_are_written_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_json=True))
    structlog.get_logger("api").info(
        "odd", path=Path("/data"), score=float("nan"), shard={1: {"a", 2}}, byte=b"\xff", huge=2**70, name="\udcff"
    )
    (line,) = lines(capsys)
    assert line["event"] == "odd"
    assert "/data" in str(line["path"])


def test_every_level_and_what_is_below(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_json=True, log_level="warning"))
    log = structlog.get_logger("api")
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)("%s it is", level)
    assert [line["event"] for line in lines(capsys)] == ["warning it is", "error it is", "critical it is"]


def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full)
        configure_logging(Settings(log_json=True))
        structlog.get_logger("api").info("lost")
        with suppress(OSError):
            full.close()
        structlog.get_logger("api").info("lost, too")


def test_what_a_transaction_did_is_told_after_its_commit_only(
    factory: Factory, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(Settings(log_json=True))
    job = factories.make_job(factory)
    with suppress(RuntimeError), factory.work() as work:
        work.note("never happened")
        raise RuntimeError
    (line,) = lines(capsys)
    assert (line["event"], line["job_id"], line["state"]) == ("job state", job.id, "queued")


def test_a_lost_worker_is_told_with_its_step(factory: Factory, capsys: pytest.CaptureFixture[str]) -> None:
    from service import steps

    configure_logging(Settings(log_json=True))
    job = factories.make_job(factory)
    step = factories.must_claim(factory, "worker-1")
    factories.lose(factory, step.id)
    with factory.work() as work:
        steps.reap(work)
    (line,) = [line for line in lines(capsys) if line["event"] == "the worker of a step was lost"]
    assert (line["job_id"], line["step_id"], line["owner"]) == (job.id, step.id, "worker-1")


def test_the_api_process_writes_nothing_but_json(tmp_path) -> None:
    """The server's own lines included."""
    import os

    from tests.servers import free_port

    environment = {**os.environ, "LABEL_FACTORY_LOG_JSON": "true", "LABEL_FACTORY_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "api.main", "--port", str(free_port())]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(json.loads(line))
        if "startup complete" in seen[-1]["event"]:
            break
    process.terminate()
    out, err = process.communicate(timeout=30)
    assert not out
    seen += [json.loads(line) for line in err.splitlines()]
    assert any(line["logger"].startswith("uvicorn") for line in seen)
