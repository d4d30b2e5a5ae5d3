"""The client of the REST API: downloads whole or not at all, errors as one line."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from cli.client import Client, CliError
from service import api_keys, datasets, students
from service.bootstrap import Factory
from service.students import StudentFile
from tests import factories

FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


def make_student(factory: Factory) -> str:
    """Id of a student whose archive and whose one listed file are stored."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    job = factories.make_job(factory)
    with factory.work() as work:
        dataset = datasets.open_for_job(work, work.session.merge(job))
        key = f"students/{dataset.id}/1/"
        work.storage.put_stream(key + "archive.zip", [packed.getvalue()])
        work.storage.put_stream(key + "config.json", [b"{}"])
        file = StudentFile("config.json", key + "config.json", 2, hashlib.sha256(b"{}").hexdigest())
        new = factories.new_student(dataset.id, files=[file], archive_key=key + "archive.zip")
        return students.record(work, job.id, new).id


def test_a_download_that_fails_leaves_no_file(url: str, tmp_path: Path) -> None:
    with pytest.raises(CliError, match="404"):
        Client(url).download("/v1/datasets/ds_none/manifest", tmp_path / "out" / "manifest.json")
    assert not (tmp_path / "out").exists()


def test_a_quota_is_an_error_and_not_waited_for(url: str, factory: Factory) -> None:
    job = factories.make_job(factory)
    with factory.work() as work:
        key = api_keys.create(work, "nightly", "write", max_active_jobs=1).key
    limited = Client(url, key=key)
    limited.post("/v1/jobs", job.spec)
    with pytest.raises(CliError, match="429 The quota is used up: The key nightly has 1 job"):
        limited.post("/v1/jobs", job.spec)


def test_a_zip_becomes_a_folder(url: str, factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"/v1/students/{make_student(factory)}/archive"
    monkeypatch.chdir(tmp_path)
    for folder in (Path("student"), Path()):
        assert Client(url).download_folder(path, folder) == folder
        assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == FILES


def test_bytes_that_are_not_what_the_service_stored_are_refused(url: str, factory: Factory, tmp_path: Path) -> None:
    student = make_student(factory)
    path, target = f"/v1/students/{student}/files/config.json", tmp_path / "config.json"
    Client(url).download(path, target)
    with factory.work() as work:
        factory.storage.put_stream(students.file(students.get(work, student), "config.json").key, [b"[]"])
    with pytest.raises(CliError, match=r"config\.json: .*sha256"):
        Client(url).download(path, tmp_path / "again" / "config.json")
    assert list((tmp_path / "again").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_line(url: str, factory: Factory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    path = f"/v1/students/{make_student(factory)}/archive"
    with pytest.raises(CliError, match=r"file: .*choose another --out"):
        Client(url).download_folder(path, tmp_path / "file")


@pytest.mark.parametrize(("address", "words"), [("localhost:8000", "http://"), ("http://[bad", "does not answer")])
def test_an_address_that_is_none_is_one_line(address: str, words: str) -> None:
    with pytest.raises(CliError, match=words):
        Client(address).get("/v1/jobs")


def test_something_else_that_answers_is_named(url: str) -> None:
    with pytest.raises(CliError, match="no Label Factory"):
        Client(url).get("/jobs")


def test_a_problem_names_its_places_once_and_in_one_line(url: str) -> None:
    with pytest.raises(CliError) as caught:
        Client(url).get("/v1/jobs", limit=0, state="lost")
    assert "\n" not in str(caught.value)
    assert ".;" not in str(caught.value)
    assert "query.limit: " in str(caught.value)
