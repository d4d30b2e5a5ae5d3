"""`label-factory workspaces`: parts of the factory that do not see each other; for the operator."""

import typer

from cli.client import Client
from cli.listing import add_list
from cli.options import DEFAULT_URL, AsJson, Url
from cli.output import console, show

app = typer.Typer(no_args_is_help=True, help="Workspaces; for admin keys of the operator's own, which is `default`.")
COLUMNS = ("id", "name", "created_at")
add_list(app, "workspace", "/v1/workspaces", COLUMNS)


@app.command()
def create(name: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Make a workspace and print its first admin key; it is shown this once."""
    made = Client(url).post("/v1/workspaces", {"name": name})
    show(made, as_json=as_json, columns=COLUMNS)
    if not as_json:
        console.print(f"[dim]first key[/dim]  {made['first_key']['key']}")
