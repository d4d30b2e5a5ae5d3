"""`label-factory sign-in|audit`: into the dashboard, and who did what."""

import typer

from cli.client import Client
from cli.options import DEFAULT_URL, AsJson, Limit, Url
from cli.output import show

AUDIT_COLUMNS = ("created_at", "actor", "operation", "object_id", "outcome", "status", "address")


def sign_in(url: Url = DEFAULT_URL) -> None:
    """Print a link that opens the dashboard in one browser, once, within a quarter of an hour."""
    typer.echo(sign_in_link(Client(url)))


def sign_in_link(client: Client) -> str:
    """The whole address of a fresh link."""
    return client.url + str(client.post("/v1/sign-in-links")["path"])


def audit(url: Url = DEFAULT_URL, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List who changed what in the workspace, and what was refused, newest first; for admin keys."""
    show(Client(url).items("/v1/audit-entries", limit=limit), as_json=as_json, columns=AUDIT_COLUMNS)
