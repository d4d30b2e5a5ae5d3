"""`label-factory webhooks`: addresses that are told what happens."""

from typing import Annotated, Any, Literal

import typer

from cli.client import Client, CliError
from cli.listing import add_list, add_show
from cli.options import DEFAULT_URL, AsJson, Limit, Url
from cli.output import console, show

app = typer.Typer(no_args_is_help=True, help="Addresses that are told what happens, by signed messages.")
PATH = "/v1/webhooks"
COLUMNS = ("id", "url", "event_types", "state", "disabled_reason", "failing_since", "created_at")
LIST_COLUMNS = ("id", "url", "state", "failing_since", "created_at")
DELIVERY_COLUMNS = ("id", "event_type", "state", "attempts", "last_status", "last_error", "next_attempt_at")
State = Literal["pending", "delivered", "failed"]
Events = Annotated[
    list[str] | None, typer.Option("--event", help="An event to tell of, such as job.failed; give it several times.")
]


@app.command()
def create(address: str, event: Events = None, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Tell an https address of events (of all, unless --event names some). Prints the secret, this once."""
    body: dict[str, Any] = {"url": address, **({"event_types": event} if event else {})}
    show(Client(url).post(PATH, body), as_json=as_json, columns=(*COLUMNS, "secret"))


add_list(app, "webhook", PATH, LIST_COLUMNS)
add_show(app, "webhook", PATH, COLUMNS)


@app.command()
def update(
    webhook_id: str,
    address: Annotated[str | None, typer.Option(help="Send messages there from now on.")] = None,
    event: Events = None,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Change a webhook's address or events."""
    body: dict[str, Any] = {name: value for name, value in (("url", address), ("event_types", event)) if value}
    if not body:
        raise CliError("nothing to change: give --address or --event")
    show(Client(url).patch(f"{PATH}/{webhook_id}", body), as_json=as_json, columns=COLUMNS)


@app.command()
def enable(webhook_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Send messages to a disabled webhook again."""
    show(Client(url).patch(f"{PATH}/{webhook_id}", {"enabled": True}), as_json=as_json, columns=COLUMNS)


@app.command()
def disable(webhook_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Send a webhook nothing more, until it is enabled again."""
    show(Client(url).patch(f"{PATH}/{webhook_id}", {"enabled": False}), as_json=as_json, columns=COLUMNS)


@app.command()
def delete(webhook_id: str, url: Url = DEFAULT_URL) -> None:
    """Remove a webhook and the record of its messages."""
    Client(url).delete(f"{PATH}/{webhook_id}")
    console.print(f"removed {webhook_id}")


@app.command()
def ping(webhook_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Send a test message; `deliveries` shows how it went."""
    show(Client(url).post(f"{PATH}/{webhook_id}:ping"), as_json=as_json, columns=DELIVERY_COLUMNS)


@app.command()
def rotate_secret(webhook_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Replace the secret and print the new one; the old one signs beside it for a day."""
    answer = Client(url).post(f"{PATH}/{webhook_id}:rotate-secret")
    show(answer, as_json=as_json, columns=("id", "url", "secret", "previous_secret_until"))


@app.command()
def deliveries(
    webhook_id: str,
    state: Annotated[State | None, typer.Option(help="Only messages in this state.")] = None,
    url: Url = DEFAULT_URL,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """List a webhook's messages, newest first."""
    rows = Client(url).items(f"{PATH}/{webhook_id}/deliveries", limit=limit, state=state)
    show(rows, as_json=as_json, columns=DELIVERY_COLUMNS)


@app.command()
def redeliver(webhook_id: str, delivery_id: str, url: Url = DEFAULT_URL, as_json: AsJson = False) -> None:
    """Send a message again, at once and under its own id."""
    answer = Client(url).post(f"{PATH}/{webhook_id}/deliveries/{delivery_id}:redeliver")
    show(answer, as_json=as_json, columns=DELIVERY_COLUMNS)
