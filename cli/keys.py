"""`label-factory keys`: what opens a workspace to programs and people."""

from typing import Annotated, Literal

import typer

from cli.client import Client
from cli.listing import add_list
from cli.options import DEFAULT_URL, AsJson, Url
from cli.output import show

app = typer.Typer(no_args_is_help=True, help="API keys of the workspace; for admin keys.")
COLUMNS = ("id", "name", "scope", "prefix", "last_used_at", "expires_at", "revoked_at")
KeyId = Annotated[str, typer.Argument(metavar="id", help="The key's id (key_...), not the key.")]
add_list(app, "key", "/v1/api-keys", COLUMNS)


@app.command()
def create(
    name: str,
    scope: Annotated[
        Literal["read", "write", "admin"], typer.Option(help="The most it may do; each includes those before it.")
    ] = "write",
    days: Annotated[int | None, typer.Option(min=1, help="How long it holds; left out: until it is revoked.")] = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it; it is shown this once."""
    made = Client(url).post("/v1/api-keys", {"name": name, "scope": scope, "days": days})
    show(made, as_json=as_json, columns=("key", "id", "name", "scope", "expires_at"))


@app.command()
def rotate(
    key_id: KeyId,
    overlap_seconds: Annotated[int, typer.Option(min=0, help="The old secret holds for this long; 0: it ends.")] = 0,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret and print it; it is shown this once."""
    made = Client(url).post(f"/v1/api-keys/{key_id}:rotate", {"overlap_seconds": overlap_seconds})
    show(made, as_json=as_json, columns=("key", "id", "name", "scope", "former_until"))


@app.command()
def revoke(key_id: KeyId, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """End a key at once, with every browser that signed in with it."""
    show(Client(url).post(f"/v1/api-keys/{key_id}:revoke"), as_json=as_json, columns=COLUMNS)
