"""`list` and `show`, alike for every noun."""

from collections.abc import Sequence
from typing import Annotated

import typer

from cli.client import Client
from cli.options import DEFAULT_URL, AsJson, Limit, Url
from cli.output import show


def add_list(app: typer.Typer, noun: str, path: str, columns: Sequence[str]) -> None:
    """Give a noun `list`: the items at `path`, a table of `columns`."""

    @app.command("list", help=f"List the {noun}s, newest first.")
    def list_rows(url: Url = DEFAULT_URL, limit: Limit = 50, as_json: AsJson = False) -> None:
        show(Client(url).items(path, limit=limit), as_json=as_json, columns=columns)


def add_show(app: typer.Typer, noun: str, path: str, columns: Sequence[str]) -> None:
    """Give a noun `show`: one item below `path`, a line for each of `columns`, everything as JSON."""

    @app.command("show", help=f"Show one {noun}; --json has all that is known of it.")
    def show_row(
        row_id: Annotated[str, typer.Argument(metavar="id", help=f"The {noun}'s id.")],
        url: Url = DEFAULT_URL,
        as_json: AsJson = False,
    ) -> None:
        show(Client(url).get(f"{path}/{row_id}"), as_json=as_json, columns=columns)
