"""Clients of the application that show a key, as every caller must."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient

from api.app import create_app
from service import access, api_keys
from service.bootstrap import Factory
from service.caller import Scope
from service.tables import DEFAULT_WORKSPACE_ID


def api_key(factory: Factory, scope: Scope = "admin", *, workspace_id: str = DEFAULT_WORKSPACE_ID) -> str:
    """A new key of this workspace."""
    with factory.unbound().work() as work:
        return api_keys.create(work, f"{scope} key", scope, workspace_id=workspace_id).key


def api_client(
    factory: Factory, scope: Scope = "admin", *, workspace_id: str = DEFAULT_WORKSPACE_ID, **options: Any
) -> TestClient:
    """A client with a new key of this workspace; a crash is an answer here, as it is for users."""
    return with_key(factory, api_key(factory, scope, workspace_id=workspace_id), **options)


def with_key(factory: Factory, key: str | None, **options: Any) -> TestClient:
    """A client that shows this key, or none."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return TestClient(create_app(factory), headers=headers, **{"raise_server_exceptions": False, **options})


def other_workspace(factory: Factory, name: str = "others") -> str:
    """Id of a workspace beside the default one."""
    return access.open_workspace(factory, name).workspace.id
