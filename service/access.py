"""`python -m service.access`: the operator's way to workspaces and first keys, at the machine that has the database."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from service import api_keys, audit, workspaces
from service.api_keys import IssuedKey
from service.bootstrap import Factory, build_factory
from service.caller import SCOPES, Scope
from service.database import migrate
from service.errors import ServiceError
from service.settings import read_settings
from service.tables import Workspace


def create_key(factory: Factory, workspace: str, name: str, scope: Scope, *, days: int | None = None) -> str:
    """A new key of the workspace of this name, in the form to send. Raises NotFound."""
    lifetime = None if days is None else timedelta(days=days)
    with factory.unbound().work() as work:
        workspace_id = workspaces.by_name(work, workspace).id
        issued = api_keys.create(work, name, scope, lifetime=lifetime, workspace_id=workspace_id)
        audit.record_operator(work, "create_api_key", issued.row.id, workspace_id=workspace_id)
    return issued.key


@dataclass(frozen=True)
class OpenedWorkspace:
    """A new workspace and what opens it."""

    workspace: Workspace
    """Empty but for its key."""
    first_key: IssuedKey
    """An admin key."""


def open_workspace(factory: Factory, name: str) -> OpenedWorkspace:
    """A new workspace with its first admin key, all in one transaction. Raises Conflict."""
    with factory.unbound().work() as work:
        workspace = workspaces.create(work, name)
        first_key = api_keys.create(work, "first key", "admin", workspace_id=workspace.id)
        if factory.action is None:
            audit.record_operator(work, "create_workspace", workspace.id)
        else:
            audit.record_done(work, factory.action, made=workspace.id)
    return OpenedWorkspace(workspace, first_key)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what it made is printed alone, so that scripts can take it."""
    options = _parser().parse_args(arguments)
    factory = build_factory(read_settings())
    migrate(factory.settings.resolved_database_url)
    try:
        if options.command == "create-workspace":
            made = open_workspace(factory, options.name).first_key.key
        else:
            made = create_key(factory, options.workspace, options.name, options.scope, days=options.days)
    except ServiceError as error:
        sys.stderr.write(f"error: {error.detail}\n")
        return 1
    finally:
        factory.close()
    sys.stdout.write(f"{made}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="service.access", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    workspace = commands.add_parser("create-workspace", help="make a workspace and print its first admin key")
    workspace.add_argument("name")
    key = commands.add_parser("create-key", help="make a key and print it; it is shown this once")
    key.add_argument("name", help="what people call it")
    key.add_argument("--workspace", default="default", help="name of the workspace (default: default)")
    key.add_argument("--scope", choices=SCOPES, default="admin", help="the most it may do (default: admin)")
    key.add_argument("--days", type=int, help="how long it holds; left out: until it is revoked")
    return parser


if __name__ == "__main__":
    sys.exit(main())
