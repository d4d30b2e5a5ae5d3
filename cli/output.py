"""What a person or a script reads: tables for people, one JSON document for `--json`."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def _console(*, stderr: bool = False) -> Console:
    console = Console(highlight=False, stderr=stderr)
    if not console.is_terminal:
        # A pipe or a log has no width of its own; 80 columns would fold every table.
        console.width = 160
    return console


console = _console()
#: Progress and errors: what a script that reads the answer must not find in it.
notices = _console(stderr=True)
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d.*Z$")


def show(document: Any, *, as_json: bool, columns: Sequence[str] = ()) -> None:
    """Print a document or a list of them: as JSON, or as a table of `columns`."""
    if as_json:
        json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    elif isinstance(document, list):
        console.print(rows_table(document, columns) if document else "nothing here yet")
    else:
        for name in columns or document:
            console.print(f"[dim]{name}[/dim]  {plain(document.get(name))}", markup=True)


def rows_table(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, title: str | None = None) -> Table:
    """A table with one line per row."""
    table = Table(title=title, box=None, pad_edge=False, header_style="bold", title_justify="left")
    for column in columns:
        # Ids are for copying: the terminal may wrap other columns, never cut these.
        table.add_column(column.replace("_", " "), no_wrap=column == "id" or column.endswith("_id"), overflow="fold")
    for row in rows:
        table.add_row(*(plain(row.get(column)) for column in columns))
    return table


def plain(value: Any) -> str:
    """A cell's text, with markup characters made harmless."""
    if value is None:
        return "-"
    if isinstance(value, str) and TIMESTAMP.match(value):
        return f"{value[:10]} {value[11:19]}"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False).replace("[", r"\[")
    return str(value).replace("[", r"\[")
