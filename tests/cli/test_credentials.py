"""Which key goes where, and the commands about keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.client import Client, CliError
from cli.credentials import find_key, forget, remember
from service.bootstrap import Factory
from tests.clients import api_key

URL = "http://127.0.0.1:8765"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cli.app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


@pytest.fixture(autouse=True)
def _own_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_the_callers_own_words_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "api-key").write_text("of the service\n")
    (tmp_path / "named").write_text("of the file\n")
    assert find_key(URL) is None
    remember(URL, tmp_path)
    assert find_key(URL) == "of the service"
    assert find_key("http://127.0.0.1:8766") is None
    monkeypatch.setenv("LABEL_FACTORY_API_KEY_FILE", str(tmp_path / "named"))
    assert find_key(URL) == "of the file"
    monkeypatch.setenv("LABEL_FACTORY_API_KEY", " of the variable ")
    assert find_key(URL) == "of the variable"


def test_a_service_that_ended_is_shown_no_key(tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("secret")
    remember(URL, tmp_path)
    forget(URL)
    forget(URL)
    assert find_key(URL) is None


def test_a_named_file_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_FACTORY_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(CliError, match="should hold an API key"):
        Client(URL)


def test_without_a_key_the_error_says_where_to_name_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_FACTORY_API_KEY")
    answer = run("jobs", "list", "--url", url)
    assert answer.returncode == 1
    assert "401" in answer.stderr
    assert "--api-key-file" in answer.stderr


def test_the_option_names_a_file_for_every_command(
    url: str, factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LABEL_FACTORY_API_KEY")
    (tmp_path / "key").write_text(api_key(factory, "read"))
    answer = run("--api-key-file", str(tmp_path / "key"), "jobs", "list", "--json", "--url", url)
    assert json.loads(answer.stdout) == []


def test_keys_workspaces_and_the_log(url: str) -> None:
    made = json.loads(run("keys", "create", "nightly", "--scope", "read", "--json", "--url", url).stdout)
    second = json.loads(run("keys", "rotate", made["id"], "--json", "--url", url).stdout)
    assert second["key"] != made["key"]
    changes = ("--max-stored-bytes", "5000000000", "--max-active-jobs", "2", "--name", "daily")
    changed = json.loads(run("keys", "update", made["id"], *changes, "--json", "--url", url).stdout)
    assert (changed["name"], changed["max_stored_bytes"], changed["max_active_jobs"]) == ("daily", 5_000_000_000, 2)
    changes = ("--unlimited", "--max-active-jobs", "3")
    changed = json.loads(run("keys", "update", made["id"], *changes, "--json", "--url", url).stdout)
    assert (changed["name"], changed["max_stored_bytes"], changed["max_active_jobs"]) == ("daily", None, 3)
    assert "max_active_jobs  3" in run("keys", "show", made["id"], "--url", url).stdout
    assert "nothing to change" in run("keys", "update", made["id"], "--url", url).stderr
    assert json.loads(run("keys", "revoke", made["id"], "--json", "--url", url).stdout)["revoked_at"]
    assert "lf_" in run("workspaces", "create", "pathology", "--url", url).stdout
    assert "pathology" in run("workspaces", "list", "--url", url).stdout
    assert f"{url}/sign-in?token=" in run("sign-in", "--url", url).stdout
    log = json.loads(run("audit", "--json", "--url", url).stdout)
    assert [row["operation"] for row in log] == [
        "create_sign_in_link",
        "create_workspace",
        "revoke_api_key",
        "update_api_key",
        "update_api_key",
        "rotate_api_key",
        "create_api_key",
    ]
