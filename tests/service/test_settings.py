"""Settings that cannot work are refused at the start, by their variables' names and without their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.settings import Settings, read_settings


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DATABASE_URL", "sqlite://", "must name a file"),
        ("DATABASE_URL", "sqlite:///:memory:", "must name a file"),
        ("DATABASE_URL", "mysql://root:geheim@db/factory", "must be sqlite:"),
        ("DATABASE_URL", "geheim", "must be sqlite:"),
        ("STORAGE_URL", "ftp://geheim@somewhere", "must begin with file:/// or s3://"),
        ("STORAGE_URL", "file://relative", "must begin with file:/// or s3://"),
        ("LEASE_SECONDS", "geheim", "valid number"),
        ("PAGE_LIMIT", "0", "greater than or equal to 1"),
    ],
)
def test_what_cannot_work_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(f"LABEL_FACTORY_{name}", value)
    with pytest.raises(SystemExit) as ended:
        read_settings()
    (line,) = str(ended.value).splitlines()
    assert line.startswith(f"error: LABEL_FACTORY_{name}: ")
    assert words in line
    assert "geheim" not in line


def test_no_secret_is_told_when_settings_do_not_fit_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_S3_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("LABEL_FACTORY_LEASE_SECONDS", "1")
    with pytest.raises(SystemExit) as ended:
        read_settings()
    line = "error: LABEL_FACTORY_HEARTBEAT_SECONDS must be at most a third of LABEL_FACTORY_LEASE_SECONDS"
    assert str(ended.value) == line
    with pytest.raises(ValueError, match="HEARTBEAT_SECONDS") as refused:
        Settings()
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize("url", ["sqlite:////data/factory.sqlite", "sqlite:///here.sqlite", "postgresql://a:b@c/d", ""])
def test_databases_that_work(url: str) -> None:
    assert Settings(database_url=url).database_url == url


def test_a_file_in_the_data_folder_is_the_default() -> None:
    assert Settings(data_dir=Path("/data")).resolved_database_url == "sqlite:////data/factory.sqlite"
