"""`label-factory keys`: what opens a workspace to programs and people."""

from typing import Annotated, Any, Literal

import typer

from cli.client import Client, CliError
from cli.listing import add_list, add_show
from cli.options import DEFAULT_URL, AsJson, Url
from cli.output import show

app = typer.Typer(no_args_is_help=True, help="API keys of the workspace; for admin keys.")
LIST_COLUMNS = ("id", "name", "scope", "prefix", "last_used_at", "expires_at", "revoked_at")
LIMITS = ("max_stored_bytes", "max_active_jobs")
COLUMNS = (*LIST_COLUMNS, *LIMITS)
KeyId = Annotated[str, typer.Argument(metavar="id", help="The key's id (key_...), not the key.")]
MaxBytes = Annotated[int | None, typer.Option(min=1, help="Most bytes that it may store, its jobs' results included.")]
MaxJobs = Annotated[int | None, typer.Option(min=1, help="Most of its jobs that go on at a time.")]
add_list(app, "key", "/v1/api-keys", LIST_COLUMNS)
add_show(app, "key", "/v1/api-keys", COLUMNS)


@app.command()
def create(
    name: str,
    scope: Annotated[
        Literal["read", "write", "admin"], typer.Option(help="The most it may do; each includes those before it.")
    ] = "write",
    days: Annotated[int | None, typer.Option(min=1, help="How long it holds; left out: until it is revoked.")] = None,
    max_stored_bytes: MaxBytes = None,
    max_active_jobs: MaxJobs = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it; it is shown this once."""
    limits = {"max_stored_bytes": max_stored_bytes, "max_active_jobs": max_active_jobs}
    made = Client(url).post("/v1/api-keys", {"name": name, "scope": scope, "days": days, **limits})
    show(made, as_json=as_json, columns=("key", "id", "name", "scope", "expires_at", *LIMITS))


@app.command()
def update(
    key_id: KeyId,
    name: Annotated[str | None, typer.Option(help="Call it this from now on.")] = None,
    max_stored_bytes: MaxBytes = None,
    max_active_jobs: MaxJobs = None,
    unlimited: Annotated[bool, typer.Option(help="Take away the limits that are not named here.")] = False,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Change a key's name or limits; they hold at once."""
    wanted = {"name": name, "max_stored_bytes": max_stored_bytes, "max_active_jobs": max_active_jobs}
    body: dict[str, Any] = dict.fromkeys(LIMITS) if unlimited else {}
    body |= {field: value for field, value in wanted.items() if value is not None}
    if not body:
        raise CliError("nothing to change: give --name, --max-stored-bytes, --max-active-jobs or --unlimited")
    show(Client(url).patch(f"/v1/api-keys/{key_id}", body), as_json=as_json, columns=COLUMNS)


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
