"""`python -m api.main` and `uvicorn --factory api.main:app`: the API as a process, from settings."""

import argparse
import gc

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.http_protocol import ImpatientProtocol
from service.bootstrap import build_factory, prepare
from service.logs import configure_logging
from service.settings import read_settings

#: Event streams never end by themselves; a stopping server waits this long for them.
SHUTDOWN_SECONDS = 3


def app() -> FastAPI:
    """Read the settings, bring the database up to date, and make the application."""
    settings = read_settings()
    configure_logging(settings)
    factory = build_factory(settings)
    prepare(factory)
    made = create_app(factory)
    # What the start made stays for good: looking through it again and again would hold up requests by a tenth of a second.
    gc.collect()
    gc.freeze()
    # A page of a list is thousands of objects, none in a cycle; at the default of 700 the search for cycles takes a tenth of the time.
    gc.set_threshold(20_000, 20, 20)
    return made


def main() -> None:
    """Serve until a signal; command-line options win over the settings."""
    settings = read_settings()
    parser = argparse.ArgumentParser(prog="api.main", description=__doc__)
    parser.add_argument("--host", default=settings.api_host)
    parser.add_argument("--port", type=int, default=settings.api_port)
    options = parser.parse_args()
    uvicorn.run(
        "api.main:app",
        factory=True,
        host=options.host,
        port=options.port,
        http=ImpatientProtocol,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


if __name__ == "__main__":
    main()
