"""The operator at the machine: first keys, workspaces, and the key file of an embedded service."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from service import access, api_keys, audit, operator_key
from service.bootstrap import Factory
from service.errors import Conflict, Unauthenticated
from service.tables import DEFAULT_WORKSPACE_ID
from tests.clients import other_workspace


def test_the_command_prints_a_key_that_opens_the_workspace(factory: Factory) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "LABEL_FACTORY_DATA_DIR": str(factory.settings.data_dir)}
        command = [sys.executable, "-m", "service.access", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    first = run("create-workspace", "pathology").stdout.strip()
    second = run("create-key", "upload", "--workspace", "pathology", "--scope", "write", "--days", "7").stdout.strip()
    with factory.unbound().read() as work:
        callers = [api_keys.authenticate(work, key)[0] for key in (first, second)]
    assert [caller.scope for caller in callers] == ["admin", "write"]
    assert callers[0].workspace_id == callers[1].workspace_id != DEFAULT_WORKSPACE_ID
    for arguments, words in (
        (("create-workspace", "pathology"), "already a workspace"),
        (("create-key", "x", "--workspace", "none"), "no workspace none"),
    ):
        answer = run(*arguments)
        assert (answer.returncode, answer.stdout) == (1, "")
        assert words in answer.stderr


def test_the_operators_doings_are_in_the_log(any_factory: Factory) -> None:
    access.create_key(any_factory, "default", "ops", "admin")
    workspace_id = other_workspace(any_factory, "pathology")
    with any_factory.read() as work:
        found = [(row.actor, row.operation, row.object_id) for row in audit.list_page(work).items]
    assert found[0] == (audit.OPERATOR, "create_workspace", workspace_id)
    assert found[1][:2] == (audit.OPERATOR, "create_api_key")
    with pytest.raises(Conflict):
        access.open_workspace(any_factory, "pathology")


def ensure(factory: Factory) -> None:
    with factory.within(DEFAULT_WORKSPACE_ID).work() as work:
        operator_key.ensure(work)


def test_an_embedded_service_makes_one_key_for_its_user(factory: Factory) -> None:
    file = operator_key.path(factory.settings)
    ensure(factory)
    key = file.read_text().strip()
    assert file.stat().st_mode & 0o777 == 0o600
    ensure(factory)
    assert file.read_text().strip() == key
    with factory.unbound().read() as work:
        caller, _ = api_keys.authenticate(work, key)
    assert (caller.key_name, caller.scope) == ("this machine", "admin")


@pytest.mark.parametrize("kept", [None, "", "lf_other_key", "not \u00fc a key"])
def test_a_key_file_that_opens_nothing_is_replaced(factory: Factory, kept: str | None) -> None:
    file = operator_key.path(factory.settings)
    ensure(factory)
    former = file.read_text().strip()
    file.unlink()
    if kept is not None:
        file.write_text(kept)
    ensure(factory)
    assert file.stat().st_mode & 0o777 == 0o600
    with factory.unbound().read() as work:
        assert api_keys.authenticate(work, file.read_text().strip())[0].scope == "admin"
        with pytest.raises(Unauthenticated):
            api_keys.authenticate(work, former)
