"""The commands against a served API: what a person sees, what a script reads, what an error says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import httpx2
import pytest

from cli.client import CliError
from cli.packs import read_pack
from cli.reports import spread
from cli.supervisor import service_environment
from service import datasets, reports, students
from service.bootstrap import Factory
from tests import factories
from tests.path.journey import annotated_zip, pool_zip
from tests.service.test_purging import furnish


def run(*arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **({"LABEL_FACTORY_URL": url} if url else {})}
    command = [sys.executable, "-m", "cli.app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_pool_and_an_annotation_set_are_uploaded(url: str, tmp_path: Path) -> None:
    (tmp_path / "pool.zip").write_bytes(pool_zip(range(4)))
    (tmp_path / "few.zip").write_bytes(annotated_zip(range(3)))
    pool = json.loads(run("pools", "create", "discs", str(tmp_path / "pool.zip"), "--json", url=url).stdout)
    assert (pool["state"], pool["num_images"]) == ("sealed", 4)
    few = json.loads(
        run("annotations", "create", "few", str(tmp_path / "few.zip"), "--first", "2", "--json", url=url).stdout
    )
    assert few["num_images"] == 2
    assert few["id"] in run("annotations", "list", url=url).stdout


def test_every_noun_is_listed_and_shown_alike(url: str, factory: Factory) -> None:
    job = factories.make_job(factory)
    rows = [{"name": "student", "title": "the student", "miou": 0.5, "per_class_iou": {"cell": 0.25}}]
    with factory.work() as work:
        dataset = datasets.open_for_job(work, work.session.merge(job))
        report = reports.record(work, job.id, {"rows": rows, "verdict": "It is better."})
        ids = {
            "pools": factories.make_pool(work).id,
            "annotations": factories.make_annotation_set(work).id,
            "generators": factories.make_generator(work).id,
            "jobs": job.id,
            "datasets": dataset.id,
            "students": students.record(work, job.id, factories.new_student(dataset.id)).id,
            "reports": report.id,
        }
    for noun, row_id in ids.items():
        assert row_id in run(noun, "list", url=url).stdout, noun
        assert json.loads(run(noun, "show", row_id, "--json", url=url).stdout)["id"] == row_id
    shown = run("reports", "show", report.id, url=url).stdout
    assert "0.500" in shown
    assert "It is better." in shown


def test_things_are_deleted_linked_and_exported_again(url: str, factory: Factory) -> None:
    ids = furnish(factory)
    link = run("datasets", "link", ids["dataset"], "--minutes", "1", url=url).stdout.strip()
    assert link.startswith(f"{url}/v1/objects/")
    assert httpx2.get(link, trust_env=False).content == b"x"
    for noun, row_id in (("datasets", ids["dataset"]), ("pools", ids["image pool"]), ("jobs", ids["job"])):
        assert run(noun, "delete", row_id, url=url).stdout == f"deleted {row_id}\n"
        again = run(noun, "delete", row_id, url=url)
        assert again.returncode == 1
        assert again.stderr.startswith("error: 410")
    assert json.loads(run("datasets", "list", "--json", url=url).stdout) == []
    refused = run("datasets", "export", ids["dataset"], url=url)
    assert refused.stderr.startswith("error: 422")


def test_a_missing_zip_leaves_no_empty_pool(url: str, tmp_path: Path) -> None:
    answer = run("pools", "create", "discs", str(tmp_path / "missing.zip"), url=url)
    assert answer.returncode == 2
    # The message stands in a box as wide as the terminal: a long path is wrapped.
    assert "missing.zip" in "".join(character for character in answer.stderr if character not in "│ \n")
    assert json.loads(run("pools", "list", "--json", url=url).stdout) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["jobs", "list", "--state", "lost"], "succeeded"),
        (["annotations", "create", "few", "pyproject.toml", "--format", "voc"], "masks"),
        (["up", "--generators", "nowhere"], "nowhere"),
        (["demo", "--generator", "nowhere"], "nowhere"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_a_wrong_word_is_told_before_anything_is_asked(arguments: list[str], words: str) -> None:
    answer = run(*arguments, url="http://127.0.0.1:9")
    assert answer.returncode == 2
    assert words in answer.stderr


def test_the_version_is_told() -> None:
    assert run("--version").stdout == f"{version('label-factory')}\n"


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    answer = run("up", "--data", str(tmp_path / "file" / "data"))
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: ")
    assert "choose another --data" in answer.stderr


def test_up_says_itself_why_it_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_LEASE_SECONDS", "soon")
    answer = run("up", "--data", str(tmp_path), "--port", "18767")
    assert answer.returncode != 0
    words = " ".join(answer.stderr.split())
    assert "the API did not start: LABEL_FACTORY_LEASE_SECONDS: Input should be a valid number" in words


def test_a_long_error_stays_one_line() -> None:
    answer = run("jobs", "list", url=f"http://127.0.0.1:9/{'long' * 60}")
    assert answer.stderr.count("\n") == 1


def test_progress_does_not_mix_with_json(url: str, factory: Factory) -> None:
    job = factories.make_job(factory)
    factories.run_to_end(factory, job.id)
    answer = run("jobs", "watch", job.id, "--json", url=url)
    assert json.loads(answer.stdout)["state"] == "succeeded"
    assert "fit the head" in answer.stderr


def test_a_cancelled_job_is_no_success_to_who_waits_for_it(url: str, factory: Factory) -> None:
    job = factories.make_job(factory)
    run("jobs", "cancel", job.id, url=url)
    answer = run("jobs", "watch", job.id, url=url)
    assert answer.returncode == 1
    assert f"`label-factory jobs retry {job.id}`" in answer.stderr


def test_a_refused_upload_says_what_and_where(url: str, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(annotated_zip(range(3))[:-30])
    answer = run("annotations", "create", "few", str(tmp_path / "broken.zip"), url=url)
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: 422")
    assert "Traceback" not in answer.stderr


def test_a_job_that_names_a_missing_generator_is_refused(url: str, factory: Factory, tmp_path: Path) -> None:
    with factory.work() as work:
        annotation_set_id = factories.make_annotation_set(work).id
    spec = {"kind": "label", "annotation_set_id": annotation_set_id, "generator": "missing"}
    (tmp_path / "job.json").write_text(json.dumps(spec))
    answer = run("jobs", "submit", str(tmp_path / "job.json"), url=url)
    assert answer.returncode == 1
    assert "generator" in answer.stderr


def test_no_service_is_one_clear_line() -> None:
    answer = run("jobs", "list", url="http://127.0.0.1:9")
    assert answer.returncode == 1
    assert "label-factory up" in answer.stderr.replace("\n", " ")


def test_up_starts_a_service_and_ends_it_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.app", "up", "--data", str(tmp_path / "data"), "--port", "18765"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline()
        log = tmp_path / "data" / "logs" / "worker-1.log"
        deadline = time.monotonic() + 60
        while "worker is up" not in log.read_text():
            assert time.monotonic() < deadline, "the worker did not start"
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert "http://127.0.0.1:" in address
    assert "worker ends" in log.read_text()


def test_several_workers_share_the_cores_and_one_that_dies_is_started_again(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.app", "up", "--data", str(tmp_path / "data"), "--port", "18766"]
    command += ["--workers", "2"]
    logs = [tmp_path / "data" / "logs" / f"worker-{number}.log" for number in (1, 2)]

    def owners(log: Path) -> list[int]:
        """Process ids of the workers that wrote this log, in the order they came up."""
        return [int(pid) for pid in re.findall(r"worker is up.*?owner\S*=\S*:(\d+)", log.read_text())]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        first, second = (wait_for(lambda log=log: owners(log)) for log in logs)
        os.kill(second[0], signal.SIGKILL)
        again = wait_for(lambda: owners(logs[1])[1:])
        assert len({*first, *second, *again}) == 3
        assert owners(logs[0]) == first, "the other one goes on"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert all("worker ends" in log.read_text() for log in logs)


def wait_for(look: Callable[[], list[int]], seconds: float = 60) -> list[int]:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


@pytest.mark.parametrize(("cores", "workers", "threads"), [(8, 1, None), (8, 3, "2"), (2, 5, "1")])
def test_each_of_several_workers_gets_its_share_of_the_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, workers: int, threads: str | None
) -> None:
    name = "LABEL_FACTORY_TORCH_THREADS"
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    monkeypatch.delenv(name, raising=False)
    assert service_environment(tmp_path, None, workers=workers).get(name) == threads
    monkeypatch.setenv(name, "7")
    assert service_environment(tmp_path, None, workers=workers)[name] == "7"


def test_a_pack_without_what_the_demo_needs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CliError, match=r"pack\.json"):
        read_pack(tmp_path, None)
    assert read_pack(Path("examples/portraits"), None).generator is not None


def test_spread() -> None:
    assert spread([0.5]) == "0.500"
    assert spread([0.5, 0.6]) == "0.550 ±0.071"
    assert spread([None]) == "-"


def test_the_operators_folders_reach_every_process(tmp_path: Path) -> None:
    environment = service_environment(tmp_path, tmp_path / "generators", weights=tmp_path / "weights")
    assert environment["LABEL_FACTORY_BUNDLED_GENERATORS_DIR"] == str(tmp_path / "generators")
    assert environment["LABEL_FACTORY_WEIGHTS_DIR"] == str(tmp_path / "weights")


def test_a_service_is_backed_up_and_restored_elsewhere(factory: Factory, tmp_path: Path) -> None:
    with factory.work() as work:
        kept = factories.make_annotation_set(work)
    data, backup, elsewhere = factory.settings.data_dir, tmp_path / "backup", tmp_path / "elsewhere"
    done = run("backup", "--data", str(data), "--to", str(backup))
    assert done.returncode == 0, done.stderr
    assert "backed up" in done.stderr
    again = run("backup", "--data", str(data), "--to", str(backup))
    assert (again.returncode, again.stderr[:6]) == (1, "error:")
    done = run("restore", "--data", str(elsewhere), "--from", str(backup))
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "objects" / kept.key).read_bytes() == (data / "objects" / kept.key).read_bytes()
    assert "already has tables" in run("restore", "--data", str(elsewhere), "--from", str(backup)).stderr


def test_the_doctor_looks_at_everything_and_says_what_to_do(factory: Factory, tmp_path: Path) -> None:
    well = run("doctor", "--data", str(factory.settings.data_dir), "--json")
    assert well.returncode == 0, well.stdout
    checks = {finding["check"] for finding in json.loads(well.stdout)}
    assert {"settings", "disk", "database", "schema", "store", "broker", "clock", "workers", "device"} <= checks
    ill = run("doctor", "--data", str(tmp_path), "--url", "http://127.0.0.1:9")
    assert ill.returncode == 1
    assert "label-factory up" in ill.stdout.replace("\n", " ")
