"""Options that every command shares."""

from typing import Annotated

import typer

Url = Annotated[str, typer.Option("--url", envvar="LABEL_FACTORY_URL", help="The service's address.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="How many to show.")]
DEFAULT_URL = "http://127.0.0.1:8000"
