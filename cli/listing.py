"""`list`, `show`, `delete` and `link`, alike for every noun."""

from collections.abc import Sequence
from typing import Annotated

import typer

from cli.client import Client
from cli.options import DEFAULT_URL, AsJson, Limit, Url
from cli.output import console, show


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


def add_delete(app: typer.Typer, noun: str, path: str, *, stays: str) -> None:
    """Give a noun `delete`: one or several items below `path`; `stays` says what is left."""

    @app.command("delete", help=f"Delete {noun}s for good; {stays}.")
    def delete_rows(
        row_ids: Annotated[list[str], typer.Argument(metavar="id...", help=f"Ids of {noun}s.")],
        url: Url = DEFAULT_URL,
    ) -> None:
        client = Client(url)
        for row_id in row_ids:
            client.delete(f"{path}/{row_id}")
            console.print(f"deleted {row_id}", markup=False)


def add_link(app: typer.Typer, noun: str, path: str, file: str) -> None:
    """Give a noun `link`: an address of the download `file` of one item below `path`."""

    @app.command(
        "link", help=f"Print an address of a {noun}'s zip that anyone who has it may download from for a while."
    )
    def link(
        row_id: Annotated[str, typer.Argument(metavar="id", help=f"The {noun}'s id.")],
        minutes: Annotated[float, typer.Option(min=0.1, max=15, help="How long it is to work.")] = 5.0,
        url: Url = DEFAULT_URL,
    ) -> None:
        console.print(Client(url).link(f"{path}/{row_id}/{file}", minutes=minutes), markup=False, soft_wrap=True)
